// `npm run structure`: files, longest file, longest function and most parameters of each folder.
// test/repository/architecture.test.ts holds src/ and sw/ to its limits.
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** What src/ and sw/ keep to. */
export const limits = { fileLines: 350, functionLines: 100, parameters: 3 }

const linesOf = (text) => text.replace(/\n$/, '').split('\n').length

const nameOf = (node) => {
  const named = node.name ?? (ts.isVariableDeclaration(node.parent) ? node.parent.name : undefined)
  return (
    named?.getText() ?? (ts.isPropertyAssignment(node.parent) ? node.parent.name.getText() : '')
  )
}

/** The functions of a source file: name, lines from signature to end, positional parameters. */
const functionsIn = (file, text) => {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true)
  const found = []
  const visit = (node) => {
    const hasBody = ts.isFunctionLike(node) && 'body' in node && node.body
    if (hasBody) {
      const [start, end] = [node.getStart(source), node.getEnd()]
      const lines = linesOf(text.slice(start, end))
      found.push({ name: nameOf(node) || '(anonymous)', lines, parameters: node.parameters.length })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** Every source file below a folder of the repository, with its functions. */
export const measureFolder = (folder) =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mjs)$/.test(entry.name))
    .map((entry) => {
      const file = relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/')
      const text = readFileSync(join(root, file), 'utf8')
      return { file, lines: linesOf(text), functions: functionsIn(file, text) }
    })

const longest = (items, by) =>
  items.reduce((most, item) => (item[by] > (most?.[by] ?? -1) ? item : most), undefined)

const row = (folder, files) => {
  const functions = files.flatMap(({ file, functions }) =>
    functions.map((each) => ({ ...each, file })),
  )
  const [file, length, parameters] = [
    longest(files, 'lines'),
    longest(functions, 'lines'),
    longest(functions, 'parameters'),
  ]
  const cells = [
    folder.padEnd(14),
    String(files.length).padStart(3),
    `${file.lines} ${file.file}`.padEnd(46),
    `${length?.lines ?? 0} ${length?.name ?? ''}`.padEnd(34),
    `${parameters?.parameters ?? 0} ${parameters?.name ?? ''}`,
  ]
  console.log(cells.join('  '))
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  console.log(
    'folder        files  longest file, lines'.padEnd(69),
    'longest function, lines'.padEnd(35),
    'most parameters',
  )
  for (const top of ['src', 'sw']) {
    const files = measureFolder(top)
    const folders = new Map()
    for (const each of files) {
      const folder = dirname(each.file)
      folders.set(folder, [...(folders.get(folder) ?? []), each])
    }
    for (const [folder, each] of [...folders].sort()) row(folder, each)
    row(`${top}, all`, files)
  }
}
