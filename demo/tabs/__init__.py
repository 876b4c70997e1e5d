"""The tabs of the page, in Streamlit."""
