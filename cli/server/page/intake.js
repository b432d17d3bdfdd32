// Where pictures come from: a choice of files, an address, the clipboard, or files and folders dropped.

const form = document.getElementById("by-address");

const asFiles = (files) => Array.from(files, (file) => ({ file, name: file.name }));

/** The address in a text, if this server fetches addresses. */
function asAddress(text) {
  const name = text.trim().split(/\s/)[0];
  return form && /^https?:\/\//i.test(name) && URL.canParse(name) ? [{ file: null, name }] : [];
}

/** The pictures of a file or folder that was dropped. */
async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    const picture = /^(image|video)\//.test(file.type) || /\.(avif|hei[cf]|jp2|jxl|mkv|tiff?)$/i.test(file.name);
    return picture ? [{ file, name: entry.fullPath.slice(1) }] : [];
  }
  const reader = entry.createReader();
  const read = () => new Promise((done, failed) => reader.readEntries(done, failed));
  const found = [];
  for (let some = await read(); some.length; some = await read())
    for (const one of some) found.push(...(await walk(one)));
  return found;
}

/** Call a function with `{ file, name }` of each picture, or `{ file: null, name }` of each address. */
export function intake(add) {
  document.getElementById("files").addEventListener("change", ({ target }) => {
    add(asFiles(target.files));
    target.value = "";
  });

  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = form.elements.address;
    const found = asAddress(field.value);
    field.setCustomValidity(found.length ? "" : "Give an address that starts with http:// or https://");
    if (!field.reportValidity()) return;
    add(found);
    field.value = "";
  });
  form?.addEventListener("input", ({ target }) => target.setCustomValidity(""));

  addEventListener("paste", ({ clipboardData, target }) => {
    if (clipboardData.files.length) add(asFiles(clipboardData.files));
    else if (!target.closest?.("input")) add(asAddress(clipboardData.getData("text/plain")));
  });

  let over = 0; // elements that the pointer is over while it drags
  const light = (change) => {
    over = Math.max(0, over + change);
    document.body.classList.toggle("over", over > 0);
  };
  addEventListener("dragenter", () => light(1));
  addEventListener("dragleave", () => light(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    light(-over);
    const { files, items } = event.dataTransfer;
    const text = event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain");
    const entries = Array.from(items, (each) => each.webkitGetAsEntry?.()).filter((entry) => entry);
    if (entries.some((entry) => entry.isDirectory)) {
      for (const entry of entries) add(await walk(entry));
    } else add(files.length ? asFiles(files) : asAddress(text));
  });
}
