"""The page's process: the Streamlit application, who is signed in, and what is told to open pages.

It faces browsers, so it holds the publishable key only. Whatever it reads or writes in the database is
done with the token of the person for whom it is done, and row-level security decides.
"""
