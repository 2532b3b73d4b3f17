// The simulation: `npm run simulate -- --seeds 100000 --from 1`. Runs seeds on all cores, prints
// the schedule of one that fails, and a verdict as the last line. `--mutation 'no lock'` runs them
// with something broken; `--check` is what `npm test` does, `--mutations` the part of it that breaks
// the worker. See simulate.ts for one seed.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import * as esbuild from 'esbuild'
import { mutatedSource, sourceMutations } from './source-mutations.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')
const cache = join(root, '.cache', 'simulation')

/** Seeds that a thread gets at a time. */
const batch = 20
/** Seeds after which every pair of a state and a fault must have been reached. */
const enoughForPairs = 2000

/** Puts the mutated source in the place of the real one. */
const mutated = (name) => ({
  name: 'mutated',
  setup: (build) => {
    const path = join(root, sourceMutations[name].file)
    build.onLoad({ filter: /\.ts$/ }, (file) =>
      file.path === path ? { contents: mutatedSource(name), loader: 'ts' } : undefined,
    )
  },
})

/** Builds the simulation, with a mutation of the source in it; gives the folder. */
const bundle = async (mutation) => {
  const isOfSource = Object.hasOwn(sourceMutations, mutation ?? '')
  const outdir = isOfSource ? join(cache, mutation.replaceAll(' ', '-')) : cache
  await esbuild.build({
    entryPoints: { seeds: join(here, 'seeds.ts'), report: join(here, 'report.ts') },
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    define: { DEVELOPMENT: 'false', 'process.env.NODE_ENV': '"production"' },
    // Workbox looks for it as it is loaded.
    banner: { js: 'globalThis.self ??= globalThis' },
    sourcemap: true,
    logLevel: 'warning',
    plugins: isOfSource ? [mutated(mutation)] : [],
  })
  return outdir
}

/** Threads that each run one task at a time. */
const createThreads = (count, folder) => {
  const threads = Array.from({ length: count }, () => {
    const thread = new Worker(join(folder, 'seeds.mjs'), { execArgv: ['--enable-source-maps'] })
    thread.on('error', (error) => {
      throw error
    })
    return thread
  })
  const run = (thread, task) =>
    new Promise((resolve) => {
      thread.once('message', resolve)
      thread.postMessage(task)
    })
  return {
    run: (task) => run(threads[0], task),
    /** Hands out tasks until there are none; `onRuns` says whether to go on. */
    all: async (nextTask, onRuns) => {
      let isOver = false
      await Promise.all(
        threads.map(async (thread) => {
          for (let task = nextTask(); task && !isOver; task = nextTask()) {
            if (!onRuns(await run(thread, task))) isOver = true
          }
        }),
      )
    },
    close: () => Promise.all(threads.map((thread) => thread.terminate())),
  }
}

const seconds = (start) => `${((performance.now() - start) / 1000).toFixed(1)} s`

/** Runs seeds until one fails. Gives the failed run, the hashes, and which pairs were reached. */
const runSeeds = async (threads, { from, seeds, mutation, quiet = false }) => {
  const start = performance.now()
  const hashes = new Map()
  const reached = new Map()
  let next = from
  let steps = 0
  let failed
  let told = start
  const nextTask = () => {
    if (next >= from + seeds) return undefined
    const length = Math.min(batch, from + seeds - next)
    const task = { seeds: Array.from({ length }, (_, index) => next + index), mutation }
    next += length
    return task
  }
  await threads.all(nextTask, (runs) => {
    for (const run of runs) {
      hashes.set(run.seed, run.hash)
      steps += run.steps
      for (const [pair, times] of run.reached) reached.set(pair, (reached.get(pair) ?? 0) + times)
      if (run.failure !== undefined && run.seed < (failed?.seed ?? Infinity)) failed = run
    }
    if (!quiet && performance.now() - told > 10_000) {
      told = performance.now()
      console.log(`${hashes.size} of ${seeds} seeds, ${steps} steps, ${seconds(start)}`)
    }
    return failed === undefined
  })
  if (!quiet) console.log(`${hashes.size} seeds, ${steps} steps, ${seconds(start)}`)
  return { failed, hashes, reached }
}

/** Runs a failed seed again by itself, and prints what happened in it. */
const printSchedule = async (threads, { seed, hash }, mutation) => {
  const [again] = await threads.run({ seeds: [seed], mutation, keepSchedule: true })
  console.log(again.schedule.join('\n'))
  if (again.hash !== hash) console.log(`By itself it took another course: ${again.hash}`)
  console.log(`\nSeed ${seed}: ${again.failure ?? 'no failure by itself'}`)
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '2000' },
    from: { type: 'string', default: '1' },
    mutation: { type: 'string' },
    check: { type: 'boolean', default: false },
    mutations: { type: 'boolean', default: false },
  },
})
const from = Number(values.from)
const seeds = Number(values.seeds)
const { mutation } = values

const folder = await bundle(mutation)
const { coverageTable, possiblePairs, impossiblePairs, mutations } = await import(
  pathToFileURL(join(folder, 'report.mjs')).href
)
const threadCount = Math.min(availableParallelism(), Math.ceil(seeds / batch))
const threads = createThreads(threadCount, folder)

const printCoverage = (reached) => {
  console.log(`\nHow often a fault came upon a state:\n\n${coverageTable(reached)}\n`)
  for (const why of impossiblePairs()) console.log(why)
  console.log()
}

const missingPairs = (reached) => possiblePairs().filter((pair) => !reached.has(pair))

/** Runs the simulation with a mutation; says who noticed it. */
const noticedBySeed = async (name) => {
  const isOfSource = Object.hasOwn(sourceMutations, name)
  const mutatedThreads = isOfSource ? createThreads(threadCount, await bundle(name)) : threads
  const { failed } = await runSeeds(mutatedThreads, { from, seeds, mutation: name, quiet: true })
  if (isOfSource) await mutatedThreads.close()
  return failed && `seed ${failed.seed} (${failed.failure})`
}

/** Runs a unit test with a mutation of the source; says whether it noticed it. */
const noticedByTest = async (name, { file, title }) => {
  const report = join(cache, 'mutation.json')
  rmSync(report, { force: true })
  const args = ['run', '--project', 'unit', file, '-t', title]
  const vitest = spawn(
    process.execPath,
    [join(root, 'node_modules', 'vitest', 'vitest.mjs'), ...args, '--reporter', 'json'].concat(
      `--outputFile.json=${report}`,
    ),
    { cwd: root, env: { ...process.env, TOKENWARD_MUTATION: name }, stdio: 'ignore' },
  )
  await new Promise((resolve) => vitest.on('close', resolve))
  const { numFailedTests } = JSON.parse(readFileSync(report, 'utf8'))
  return numFailedTests > 0 ? `"${title}" in ${file}` : undefined
}

/** Goes through the mutations, those that seeds notice beside those that unit tests notice. */
const noticeAll = (names) => {
  const results = new Map()
  const rows = [[], []]
  for (const name of names) rows[sourceMutations[name]?.test ? 1 : 0].push(name)
  for (const row of rows) {
    let before = Promise.resolve()
    for (const name of row) {
      const test = sourceMutations[name]?.test
      before = before.then(() => (test ? noticedByTest(name, test) : noticedBySeed(name)))
      results.set(name, before)
    }
  }
  return results
}

const checkSeeds = async (expect) => {
  const result = await runSeeds(threads, { from, seeds })
  if (result.failed) await printSchedule(threads, result.failed)
  printCoverage(result.reached)
  expect(`${seeds} seeds hold`, result.failed && replayOf(result.failed.seed))

  const twice = await runSeeds(threads, { from, seeds: 50, quiet: true })
  const differing = [...twice.hashes].filter(([seed, hash]) => result.hashes.get(seed) !== hash)
  expect('the first 50 seeds take the same course again', differing.join(', '))
  expect('every fault has come upon every state', missingPairs(result.reached).join(', '))
}

/** What `npm test` counts. */
const check = async () => {
  const counts = { passed: 0, failed: 0 }
  const expect = (title, problem) => {
    counts[problem ? 'failed' : 'passed']++
    console.log(problem ? `FAILED  ${title}: ${problem}` : `ok      ${title}`)
  }
  if (!values.mutations) await checkSeeds(expect)
  const names = [...mutations, ...Object.keys(sourceMutations)]
  const results = noticeAll(names)
  for (const name of names) {
    const by = await results.get(name)
    expect(by ? `${name}: noticed by ${by}` : name, by ? '' : 'nobody noticed')
  }
  mkdirSync(cache, { recursive: true })
  writeFileSync(join(cache, 'counts.json'), JSON.stringify(counts))
  return counts.failed === 0
}

const replayOf = (seed) =>
  `FAILED at seed ${seed}; replay: npm run simulate -- --from ${seed} --seeds 1${
    mutation ? ` --mutation '${mutation}'` : ''
  }`

const simulate = async () => {
  const { failed, reached } = await runSeeds(threads, { from, seeds, mutation })
  if (failed) await printSchedule(threads, failed, mutation)
  else if (seeds > 1) printCoverage(reached)
  if (seeds === 1 && !failed) {
    const [{ schedule }] = await threads.run({ seeds: [from], mutation, keepSchedule: true })
    console.log(schedule.join('\n'))
  }
  const missing = seeds >= enoughForPairs && !failed ? missingPairs(reached) : []
  const last = missing.length > 0 ? `FAILED: never reached: ${missing.join(', ')}` : 'clean'
  console.log(failed ? replayOf(failed.seed) : `${seeds} seeds from ${from}: ${last}`)
  return !failed && missing.length === 0
}

const isGood = await (values.check || values.mutations ? check() : simulate())
await threads.close()
process.exitCode = isGood ? 0 : 1
