//! The machines of the tree.
