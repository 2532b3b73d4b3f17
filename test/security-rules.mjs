// The rules in docs/security.md, and the tests that hold them. The last step of `npm test`: fails if
// a rule that must be kept has neither a passed test nor a reason, or if the tables are behind.
// `UPDATE_DOCS=1 npm test -- rules` writes them; `npm test -- rules` needs the reports of a whole
// run. A test belongs to the rules whose IDs are in its title.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const doc = join(root, 'docs', 'security.md')
/** What says most comes first: a rule that is seen to hold in a browser. */
const projects = ['browser', 'unattended', 'unit', 'build']
/** Tests that are named for one rule; the others are counted. */
const mostNamed = 2

/** @typedef {{ file: string, title: string, ids: string[], passed: boolean }} Test */

/** @param {string} project @returns {Test[]} */
const testsOf = (project) => {
  const report = join(root, '.cache', `vitest-${project}.json`)
  if (!existsSync(report))
    throw new Error(`There is no report of "${project}": run npm test first.`)
  return JSON.parse(readFileSync(report, 'utf8'))
    .testResults.sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(({ name, assertionResults }) =>
      assertionResults.map(({ fullName, title, status }) => ({
        file: relative(root, name).split(sep).join('/'),
        title,
        ids: fullName.match(/\b[A-Z]{2}-\d{2}\b/g) ?? [],
        passed: status === 'passed',
      })),
    )
}

/** Words in a cell of a table. @param {string} title */
const cell = (title) =>
  title
    .replace(/\s*\(([A-Z]{2}-\d{2}[,; ]*)+\)/g, '')
    .replace(/[|\\`*_<>[\]]/g, '\\$&')
    .replace(/\s+/g, ' ')

/** Two tests that say most: of different kinds and files, before two of one. @param {Test[]} tests */
const choose = (tests) => {
  const files = [...new Set(tests.map(({ file }) => file))]
  const unlike = files.map((file) => /** @type {Test} */ (tests.find((test) => test.file === file)))
  const [first] = unlike
  const folder = first && dirname(first.file)
  const second = unlike.find(({ file }) => dirname(file) !== folder) ?? unlike[1] ?? tests[1]
  return [first, second].filter((test) => test !== undefined).slice(0, mostNamed)
}

/** @param {string} line @param {Test[]} all @param {string[]} wrong */
const rowOf = (line, all, wrong) => {
  const [, id = '', level = '', rule = '', held = ''] =
    /^\| (\S+?)( \(should\))? \| (.*?) \| (.*?) \| [^|]*\|$/.exec(line) ?? []
  if (!id) return line
  const tests = all.filter(({ ids }) => ids.includes(id))
  for (const { file, title } of tests.filter(({ passed }) => !passed)) {
    wrong.push(`${id}: failed or skipped: ${file}: ${title}`)
  }
  const reason = held.startsWith('None:') ? held : ''
  if (tests.length === 0) {
    if (!level && !reason) wrong.push(`${id}: neither a test nor a reason ("None: …").`)
    return `| ${id}${level} | ${rule} | ${reason} | |`
  }
  const named = choose(tests).map(({ file, title }) => {
    const name = file.replace(/^test\/|\.test\.ts$/g, '')
    return `[${name}](../${file}): ${cell(title)}`
  })
  const more = tests.length - named.length
  const rest = more > 0 ? [`and ${more} more`] : []
  const result = tests.every(({ passed }) => passed) ? 'passed' : 'FAILED'
  return `| ${id}${level} | ${rule} | ${[...named, ...rest].join('<br>')} | ${result} |`
}

const all = projects.flatMap(testsOf)
const text = readFileSync(doc, 'utf8')
/** @type {string[]} */
const wrong = []
const written = text
  .split('\n')
  .map((line) => (/^\| [A-Z]{2}-\d{2}\b/.test(line) ? rowOf(line, all, wrong) : line))
  .join('\n')
const known = new Set(text.match(/^\| [A-Z]{2}-\d{2}/gm)?.map((cell) => cell.slice(2)))
for (const { file, title, ids } of all) {
  const strange = ids.filter((id) => !known.has(id))
  if (strange.length > 0) wrong.push(`${file}: ${title}: no such rule: ${strange.join(', ')}`)
}
if (written !== text) {
  if (process.env.UPDATE_DOCS) writeFileSync(doc, written)
  else wrong.push('docs/security.md is behind: UPDATE_DOCS=1 npm test -- rules')
}
for (const line of wrong) console.log(line)
const held = [...known].filter((id) => all.some(({ ids }) => ids.includes(id))).length
console.log(`${known.size} rules, ${held} of them with tests`)
if (wrong.length > 0) process.exitCode = 1
