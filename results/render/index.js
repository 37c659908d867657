const search = document.getElementById("search"), told = document.getElementById("told");
const lines = [...document.querySelectorAll("tr[data-words]")];
lines.forEach((line) => { line.words = `${line.textContent} ${line.dataset.words}`.toLowerCase(); });

function show() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  lines.forEach((line) => { line.hidden = !wanted.every((word) => line.words.includes(word)); });
  told.textContent = wanted.length ? `${lines.filter((line) => !line.hidden).length} lines found` : "";
}

search.form.hidden = false;
search.form.addEventListener("submit", (event) => event.preventDefault());
search.addEventListener("input", show);
show();
