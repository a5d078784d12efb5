"""Files of other programs, parsed and written; nothing here knows a store."""
