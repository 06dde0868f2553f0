// The search page reads a summary of each result with fetch, which a browser refuses on pages opened from the disk.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// A result that is an entry of an index, such as a term of the glossary, names only its page: "Glossary, Glossary, Glossary".
// Here it names the entry too.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const perform = Search._performSearch;
  Search._performSearch = (...question) => {
    const {docnames, titles, indexentries} = Search._index, entries = new Map();
    for (const [entry, places] of Object.entries(indexentries))
      for (const [file, id] of places)  // an entry is in small letters; what the package defines has its name for an anchor
        entries.set(`${docnames[file]}#${id}`, `${titles[file]} > ${id.startsWith("tutorlib.") ? id : entry}`);
    return perform(...question).map(([page, title, anchor, ...rest]) => [page, entries.get(page + anchor) ?? title, anchor, ...rest]);
  };
});
