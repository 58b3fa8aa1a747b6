"""Values as text: tables, JSON, CSV and HTML; knows no database."""
