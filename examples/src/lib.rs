//! Small programs that show how to use the parts.
