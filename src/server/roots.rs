//! Which videos there are: the roots that the operator has named, and what lies below them.
