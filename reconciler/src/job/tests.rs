mod endings;
mod harness;
mod indexed;
mod keeping;
mod policies;
mod properties;
mod running;
