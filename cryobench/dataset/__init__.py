"""What a store is: variables, dims, units; creating, opening and viewing stores."""
