// `npm test`: everything, in order, from a bare clone. `npm test -- unit browser`: those steps.
// `npm test -- changed`: what the files touch that differ from the last commit.
// Imports nothing but Node's own modules until the dependencies are installed.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findBrowser } from './support/browser.mjs'
import { installDependencies } from './support/install.mjs'
import { slowness } from './support/machine.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const path = (...parts) => join(root, ...parts)

const BIOME = path('node_modules', '@biomejs', 'biome', 'bin', 'biome')
const TSC = path('node_modules', 'typescript', 'bin', 'tsc')
const VITEST = path('node_modules', 'vitest', 'vitest.mjs')

const totals = { passed: 0, failed: 0 }

/** The processes that run now: each leads a group, so that its workers and browsers end with it. */
const children = new Set()

/** What a step has printed while it wasn't its turn, by step; absent once it is shown as it comes. */
const withheld = new Map()

const show = (name, chunk) => {
  const chunks = withheld.get(name)
  if (chunks) chunks.push(chunk)
  else process.stdout.write(chunk)
}

/** Shows what a step has printed, and from now on what it prints. */
const showAll = (name) => {
  for (const chunk of withheld.get(name) ?? []) process.stdout.write(chunk)
  withheld.delete(name)
}

const isWindows = process.platform === 'win32'

/** Runs Node for a step: resolves with whether all went well. */
const node = (name, ...args) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { ...process.env, ...(process.stdout.isTTY && { FORCE_COLOR: '1' }) },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: !isWindows,
    })
    children.add(child)
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => show(name, chunk))
    }
    child.on('error', reject)
    child.on('close', (code) => {
      children.delete(child)
      resolve(code === 0)
    })
  })

/** Ends what still runs, as Ctrl-C in a terminal does. */
const stopAll = () => {
  for (const child of children) {
    try {
      if (isWindows) child.kill()
      else process.kill(-child.pid, 'SIGINT')
    } catch {
      // It has ended by itself.
    }
  }
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    stopAll()
    process.exit(1)
  })
}

/** What differs from the last commit, and what git does not know yet. */
const changedFiles = () => {
  const git = (...args) =>
    execFileSync('git', [...args, '-z'], { cwd: root, encoding: 'utf8' }).split('\0')
  const files = [
    ...git('diff', '--name-only', '--relative', 'HEAD'),
    ...git('ls-files', '--others', '--exclude-standard'),
  ]
  return [...new Set(files)].filter((file) => file !== '' && existsSync(path(file)))
}

/** With `changed`: the only files that tests are run for. */
let changed

/** What vitest is to run: all, or the tests that import one of the files. */
const selection = () => {
  if (!changed) return ['run']
  // It reads the documents, and imports none.
  const docs = changed.some((file) => file.endsWith('.md')) ? ['test/repository/docs.test.ts'] : []
  return ['related', '--run', '--passWithNoTests', ...changed, ...docs]
}

const vitest = async (name, project) => {
  const report = path('.cache', `vitest-${project}.json`)
  mkdirSync(dirname(report), { recursive: true })
  rmSync(report, { force: true })
  const passed = await node(
    name,
    VITEST,
    ...selection(),
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
const simulation = async (name) => {
  const report = path('.cache', 'simulation', 'counts.json')
  rmSync(report, { force: true })
  const passed = await node(name, path('test', 'simulation', 'run.mjs'), '--check')
  if (existsSync(report)) {
    const counts = JSON.parse(readFileSync(report, 'utf8'))
    totals.passed += counts.passed
    totals.failed += counts.failed
  }
  return passed
}

/**
 * In the order in which they are shown. `cores`: how many a step keeps busy, of the two that the
 * steps share. `after`: steps that have to be done before.
 */
const steps = {
  lint: { title: 'Lint and format (biome)', cores: 1, run: (name) => node(name, BIOME, 'check') },
  types: { title: 'Types (tsc)', cores: 1, run: (name) => node(name, TSC, '-b') },
  unit: { title: 'Unit tests', cores: 2, run: (name) => vitest(name, 'unit') },
  simulation: { title: 'Simulation', cores: 2, run: simulation },
  build: {
    title: 'Build',
    cores: 1,
    // Both write dist/types.
    after: ['types'],
    run: (name) => node(name, 'esbuild.config.mjs'),
  },
  checks: {
    title: 'Checks of the build',
    cores: 2,
    after: ['build'],
    run: (name) => vitest(name, 'build'),
  },
  browser: {
    title: 'Browser tests',
    cores: 2,
    after: ['build'],
    run: (name) => vitest(name, 'browser'),
  },
  unattended: {
    title: 'A browser that nobody looks into',
    // Two minutes, in which it only waits for the browser to lose patience.
    cores: 0,
    after: ['build'],
    run: (name) => vitest(name, 'unattended'),
  },
  rules: {
    title: 'The rules of docs/security.md and their tests',
    cores: 1,
    after: ['unit', 'checks', 'browser', 'unattended'],
    run: (name) => node(name, path('test', 'security-rules.mjs')),
  },
}

/** What is quick comes first, then what others wait for. */
const startOrder = [
  'lint',
  'types',
  'build',
  'unattended',
  'unit',
  'simulation',
  'checks',
  'browser',
  'rules',
]

const bold = (text) => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[22m` : text)
const inSeconds = (ms) => `${(ms / 1000).toFixed(1)} s`

/** Starts steps, as many at a time as there are cores for. Resolves with the one that failed. */
const runSteps = async (names) => {
  const waiting = startOrder.filter((name) => names.includes(name))
  const running = new Map()
  const results = new Map()
  let freeCores = 2

  const canStart = (name) => {
    const { cores, after = [] } = steps[name]
    const isReady = after.every((other) => !names.includes(other) || results.has(other))
    return isReady && cores <= freeCores
  }

  const start = (name) => {
    waiting.splice(waiting.indexOf(name), 1)
    withheld.set(name, [])
    freeCores -= steps[name].cores
    const startedAt = performance.now()
    const run = async () => {
      const passed = await steps[name].run(name)
      results.set(name, { passed, ms: performance.now() - startedAt })
      running.delete(name)
      freeCores += steps[name].cores
    }
    running.set(name, run())
  }

  let left = names
  let shown
  const report = (name) => {
    const { passed, ms } = results.get(name)
    console.log(
      bold(`== ${steps[name].title}: ${passed ? 'passed' : 'FAILED'} in ${inSeconds(ms)}`),
    )
  }
  const showWhatIsDone = () => {
    for (const name of left) {
      if (!running.has(name) && !results.has(name)) return
      if (shown !== name) console.log(`\n${bold(`== ${steps[name].title}`)}`)
      shown = name
      showAll(name)
      if (!results.has(name)) return
      report(name)
      left = left.filter((other) => other !== name)
    }
  }

  while (waiting.length > 0 || running.size > 0) {
    for (const name of [...waiting]) if (canStart(name)) start(name)
    showWhatIsDone()
    await Promise.race(running.values())
    const failed = [...results].find(([, { passed }]) => !passed)?.[0]
    if (failed) {
      // Shown where it is its turn, or else last: nobody looks for it among what passed.
      showWhatIsDone()
      if (left.includes(failed)) {
        console.log(`\n${bold(`== ${steps[failed].title}`)}`)
        showAll(failed)
        report(failed)
      }
      stopAll()
      await Promise.all(running.values())
      return failed
    }
  }
  showWhatIsDone()
  return undefined
}

const runAll = async (names) => {
  const start = performance.now()
  installDependencies()
  if (names.some((name) => /^(checks|browser|unattended)$/.test(name))) {
    // Found once, and before the long steps: a missing browser should not show up last.
    process.env.CHROME_PATH = await findBrowser({ install: true })
    console.log(`Browser: ${process.env.CHROME_PATH}`)
  }
  if (slowness > 1) console.log(`The machine is busy: time limits times ${slowness}`)
  const failedStep = await runSteps(names)
  // A step that isn't tests, or that broke down before its tests, must not count as nothing.
  if (failedStep && totals.failed === 0) totals.failed = 1
  const again = failedStep ? `; again: npm test -- ${failedStep}` : ''
  console.log(`\n${names.join(', ')}: ${inSeconds(performance.now() - start)}${again}`)
  console.log(`${totals.passed} passed, ${totals.failed} failed`)
  return failedStep === undefined
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => name !== 'changed' && !Object.hasOwn(steps, name))
if (unknown.length > 0) {
  const known = [...Object.keys(steps), 'changed'].join(', ')
  console.error(`No such step: ${unknown.join(', ')}. Steps: ${known}.`)
  process.exitCode = 1
} else {
  if (asked.includes('changed')) {
    changed = changedFiles()
    asked.push('lint', 'types', 'unit', 'browser')
  }
  const names = Object.keys(steps).filter((name) => asked.length === 0 || asked.includes(name))
  try {
    if (!(await runAll(names))) process.exitCode = 1
    if (changed?.some((file) => /^(?:src|sw)\//.test(file))) {
      console.log(
        'Browser tests import nothing of src/ and sw/. For all of them: npm test -- browser',
      )
    }
  } catch (error) {
    stopAll()
    console.error(error.message)
    console.log(`${totals.passed} passed, ${totals.failed + 1} failed`)
    process.exitCode = 1
  }
}
