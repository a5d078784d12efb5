"""How it is imaged: validated scenarios and the draws they define."""
