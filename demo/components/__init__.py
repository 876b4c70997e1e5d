"""Controls of the page that Streamlit lacks."""
