// what a cell is sorted by: the number it carries, or else its words; what is empty stands last either way
function order(cell) {
  if (cell.dataset.order !== undefined) return cell.dataset.order === "inf" ? Infinity : Number(cell.dataset.order);
  return cell.textContent.trim();
}
function sortTable(table, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: order(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "");
    if (typeof a.key === "number" && typeof b.key === "number") return a.key === b.key ? 0 : sign * (a.key < b.key ? -1 : 1);
    return sign * String(a.key).localeCompare(String(b.key));
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  });
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      sortTable(table, column, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    });
  });
}
