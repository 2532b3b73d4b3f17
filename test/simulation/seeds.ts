/**
 * A thread that runs the seeds it is handed: see run.mjs.
 */
import { parentPort } from 'node:worker_threads'
import { simulate } from './simulate.js'

/** What it is handed. */
export interface Task {
  seeds: number[]
  mutation?: string
  keepSchedule?: boolean
}

parentPort?.on('message', async ({ seeds, mutation, keepSchedule }: Task) => {
  const runs = []
  for (const seed of seeds) {
    const run = await simulate(seed, { mutation, keepSchedule })
    runs.push(run)
    if (run.failure !== undefined) break
  }
  parentPort?.postMessage(runs)
})
