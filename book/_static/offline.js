// The search page reads a summary of each result with fetch, which a browser refuses on pages opened from the disk.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
