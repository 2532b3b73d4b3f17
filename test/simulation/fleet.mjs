// `npm run simulate:fleet`: what 100,000 clients do to an authorization server that was down, by
// the longest window of the backoff. `UPDATE_DOCS=1` writes it to docs/reliability.md.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as esbuild from 'esbuild'

const file = (name) => fileURLToPath(new URL(name, import.meta.url))

const load = async (name) => {
  const { outputFiles } = await esbuild.build({
    entryPoints: [file(name)],
    bundle: true,
    format: 'esm',
    write: false,
  })
  const code = Buffer.from(outputFiles[0].text).toString('base64')
  return import(`data:text/javascript;base64,${code}`)
}

const { scenarios, outcomesOf, nameOf, tableOf, chartOf } = await load('fleet-report.ts')

const start = performance.now()
const passed = () => `${((performance.now() - start) / 1000).toFixed(0)} s`.padStart(5)

const reports = scenarios.map((scenario) => {
  console.error(scenario.title)
  const outcomes = []
  for (const each of outcomesOf(scenario)) {
    outcomes.push(each)
    console.error(`${passed()}  ${nameOf(each.backoff)}`)
  }
  return { table: tableOf(scenario, outcomes), outcomes: outcomes.map(({ outcome }) => outcome) }
})
const tables = reports.map(({ table }) => table).join('\n')
console.log(`\n${tables}`)

if (process.env.UPDATE_DOCS) {
  const doc = file('../../docs/reliability.md')
  const text = readFileSync(doc, 'utf8')
  const marked = /(<!-- fleet: .* -->\n)[\s\S]*(<!-- \/fleet -->)/
  if (!marked.test(text)) throw new Error('docs/reliability.md has no place for the tables.')
  writeFileSync(
    doc,
    text.replace(marked, (_, before, after) => `${before}\n${tables}\n${after}`),
  )
  const [usual, , together] = reports
  const chart = chartOf([
    { title: 'A usual day: requests per second', outcomes: usual.outcomes },
    { title: 'Everybody at once: requests per second', outcomes: together.outcomes },
  ])
  writeFileSync(file('../../docs/images/fleet.svg'), chart)
}
