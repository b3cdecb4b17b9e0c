"""What an operation means and when it is allowed. Functions take an open session and write the intent."""
