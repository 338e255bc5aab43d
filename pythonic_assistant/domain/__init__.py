"""The words of the project as frozen values. Imports the standard library only."""
