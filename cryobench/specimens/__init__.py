"""What is imaged: phantoms, atomic models, maps, and the catalogue that names them."""
