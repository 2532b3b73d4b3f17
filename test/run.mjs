// `npm test`: everything, in order, from a bare clone. `npm test -- unit browser`: those steps.
// Imports nothing but Node's own modules until the dependencies are installed.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findBrowser } from './support/browser.mjs'
import { installDependencies } from './support/install.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const path = (...parts) => join(root, ...parts)

const BIOME = path('node_modules', '@biomejs', 'biome', 'bin', 'biome')
const TSC = path('node_modules', 'typescript', 'bin', 'tsc')
const VITEST = path('node_modules', 'vitest', 'vitest.mjs')

const totals = { passed: 0, failed: 0 }

const node = (...args) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit' })
    child.on('error', reject)
    child.on('close', (code) => resolve(code === 0))
  })

/** What steps have printed that ran beside another one. */
const withheld = []

/** Like `node`, with what it prints withheld. */
const nodeBeside = (...args) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => withheld.push(chunk))
    }
    child.on('error', reject)
    child.on('close', (code) => resolve(code === 0))
  })

const vitest = async (project, run = node) => {
  const report = path('.cache', `vitest-${project}.json`)
  mkdirSync(dirname(report), { recursive: true })
  rmSync(report, { force: true })
  const passed = await run(
    VITEST,
    'run',
    ...['--project', project, '--reporter', 'default', '--reporter', 'json'],
    `--outputFile.json=${report}`,
  )
  if (existsSync(report)) {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'))
    totals.passed += numPassedTests
    totals.failed += numFailedTests
  }
  return passed
}

/** Bugs that need a certain order of things: see test/simulation/simulate.ts. */
const simulation = async () => {
  const report = path('.cache', 'simulation', 'counts.json')
  rmSync(report, { force: true })
  const passed = await node(path('test', 'simulation', 'run.mjs'), '--check')
  if (existsSync(report)) {
    const counts = JSON.parse(readFileSync(report, 'utf8'))
    totals.passed += counts.passed
    totals.failed += counts.failed
  }
  return passed
}

const steps = {
  lint: { title: 'Lint and format (biome)', run: () => node(BIOME, 'check') },
  types: { title: 'Types (tsc)', run: () => node(TSC, '-b') },
  unit: { title: 'Unit tests', run: () => vitest('unit') },
  simulation: { title: 'Simulation', run: simulation },
  build: { title: 'Build', run: () => node('esbuild.config.mjs') },
  checks: { title: 'Checks of the build', run: () => vitest('build') },
  browser: { title: 'Browser tests', run: () => vitest('browser') },
  unattended: {
    title: 'A browser that nobody looks into',
    run: () => vitest('unattended', nodeBeside),
    // Two minutes, in which it only waits for the browser to lose patience.
    beside: 'browser',
  },
  rules: {
    title: 'The rules of docs/security.md and their tests',
    run: () => node(path('test', 'security-rules.mjs')),
  },
}

const bold = (text) => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[22m` : text)
const seconds = (start) => `${((performance.now() - start) / 1000).toFixed(1)} s`

const runSteps = async (names) => {
  const start = performance.now()
  installDependencies()
  if (names.some((name) => /^(checks|browser|unattended)$/.test(name))) {
    // Found once, and before the long steps: a missing browser should not show up last.
    process.env.CHROME_PATH = await findBrowser({ install: true })
    console.log(`Browser: ${process.env.CHROME_PATH}`)
  }
  let failedStep
  const started = new Map()
  for (const name of names) {
    const { title, run } = steps[name]
    const stepStart = performance.now()
    console.log(`\n${bold(`== ${title}`)}`)
    for (const other of names) {
      if (steps[other].beside === name) started.set(other, steps[other].run())
    }
    const passed = await (started.get(name) ?? run())
    if (started.has(name)) process.stdout.write(Buffer.concat(withheld))
    console.log(bold(`== ${title}: ${passed ? 'passed' : 'FAILED'} in ${seconds(stepStart)}`))
    if (!passed) {
      failedStep = name
      break
    }
  }
  await Promise.all(started.values())
  // A step that isn't tests, or that broke down before its tests, must not count as nothing.
  if (failedStep && totals.failed === 0) totals.failed = 1
  const again = failedStep ? `; again: npm test -- ${failedStep}` : ''
  console.log(`\n${names.join(', ')}: ${seconds(start)}${again}`)
  console.log(`${totals.passed} passed, ${totals.failed} failed`)
  return failedStep === undefined
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !Object.hasOwn(steps, name))
if (unknown.length > 0) {
  console.error(`No such step: ${unknown.join(', ')}. Steps: ${Object.keys(steps).join(', ')}.`)
  process.exitCode = 1
} else {
  const names = Object.keys(steps).filter((name) => asked.length === 0 || asked.includes(name))
  try {
    if (!(await runSteps(names))) process.exitCode = 1
  } catch (error) {
    console.error(error.message)
    console.log(`${totals.passed} passed, ${totals.failed + 1} failed`)
    process.exitCode = 1
  }
}
