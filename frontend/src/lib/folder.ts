/** Files of a folder that was dropped or chosen, with their names below it. */

export interface NamedFile {
  name: string;
  file: File;
}

export interface Folder {
  name: string;
  files: NamedFile[];
}

/** What a drop holds: single files, or the first folder with all that lies in it. */
export async function readDrop(items: DataTransferItemList): Promise<{ files: File[]; folder: Folder | null }> {
  // Entries must be taken before anything is awaited: the list is emptied then.
  const given = [...items].filter((item) => item.kind === "file");
  const files = given.filter((item) => !item.webkitGetAsEntry()).flatMap((item) => item.getAsFile() ?? []);
  const entries = given.map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: NamedFile[] = [];
  let name = "";
  for (const entry of entries) {
    if (entry.isDirectory) {
      name ||= entry.name;
      await walk(entry as FileSystemDirectoryEntry, entries.length > 1 ? `${entry.name}/` : "", found);
    } else files.push(await fileOf(entry as FileSystemFileEntry));
  }
  if (!name) return { files, folder: null };
  return { files: [], folder: { name, files: [...found, ...files.map((file) => ({ name: file.name, file }))] } };
}

/** What an input with `webkitdirectory` holds. */
export function fromInput(list: FileList): Folder {
  const files = [...list].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  const top = files[0]?.name.split("/")[0] ?? "scans";
  const within = files.every((each) => each.name.startsWith(`${top}/`));
  return {
    name: within ? top : "scans",
    files: files
      .map((each) => (within ? { ...each, name: each.name.slice(top.length + 1) } : each))
      .filter((each) => !hidden(each.name)),
  };
}

function hidden(name: string): boolean {
  return name.split("/").some((part) => part.startsWith("."));
}

async function walk(folder: FileSystemDirectoryEntry, prefix: string, found: NamedFile[]): Promise<void> {
  const reader = folder.createReader();
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (!entries.length) return;
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      if (entry.isDirectory) await walk(entry as FileSystemDirectoryEntry, `${prefix}${entry.name}/`, found);
      else found.push({ name: prefix + entry.name, file: await fileOf(entry as FileSystemFileEntry) });
    }
  }
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((done, fail) => entry.file(done, fail));
}

/** Files that were not dropped as a folder, as one. */
export function asFolder(files: readonly File[]): Folder {
  return { name: "scans", files: files.map((file) => ({ name: file.name, file })) };
}

/**
 * Why files cannot be sent at once, or "". ReportText before they are sent: a server that refuses in the middle of a long
 * upload is not heard.
 */
export function tooLarge(files: readonly File[], limit = Infinity): string {
  const mebibytes = (bytes: number) => Math.ceil(bytes / 1048576).toLocaleString("en");
  const weight = files.reduce((sum, file) => sum + file.size, 0);
  if (weight <= limit) return "";
  const names = files.map((file) => file.name).join(", ");
  return `${names}: ${mebibytes(weight)} MiB are more than the ${mebibytes(limit)} MiB that this server takes at once. Send a single frame, or fewer files.`;
}
