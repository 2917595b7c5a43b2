//! The inventory file: the continuum as an operator writes it down.
