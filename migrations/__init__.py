"""The package's migrations, in order; a released file is never changed."""
