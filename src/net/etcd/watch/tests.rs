//! What a watch makes of answers.
