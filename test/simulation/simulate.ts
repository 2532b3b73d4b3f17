/**
 * One seed, from the first sign-in to rest. Around it:
 *
 * - scheduler.ts, chance.ts, globals.ts: time, order and chance, all from the seed
 * - database.ts, locks.ts, channel.ts, network.ts: what workers share; model-server.ts is who they
 *   talk to, with proofs.ts; offline.ts is what they keep of the API
 * - worker.ts, tab.ts, navigation.ts: the browser, with the real worker of sw/ in it
 * - scenario.ts, program.ts, faults.ts, heal.ts: what happens
 * - invariants.ts, coverage.ts, mutations.ts, source-mutations.mjs: whether that proves anything
 * - world.ts puts them together; run.mjs runs many seeds
 */
import { createChance } from './chance.js'
import { runToRest } from './heal.js'
import { mutations } from './mutations.js'
import { runProgram } from './program.js'
import { pickScenario } from './scenario.js'
import { createWorld, type World } from './world.js'

export interface Run {
  seed: number
  steps: number
  /** Of the schedule. */
  hash: string
  failure?: string
  schedule: string[]
  reached: Map<string, number>
}

let rejected: unknown
process.on('unhandledRejection', (reason) => {
  // Workbox leaves the promise of a transaction alone whose request has failed.
  if (/workbox-background-sync/.test(String((reason as Error | undefined)?.stack))) return
  rejected ??= reason ?? new Error('Something was rejected without a reason')
})

/** What has waited for the state that is there now happens. */
const strike = (world: World) => {
  const state = world.state()
  const now = world.ambushes.filter((ambush) => ambush.state === state)
  world.ambushes = world.ambushes.filter((ambush) => ambush.state !== state)
  for (const ambush of now) ambush.strike()
}

/** Runs one seed from the first sign-in to rest. */
export const simulate = async (
  seed: number,
  { mutation, keepSchedule = false }: { mutation?: string; keepSchedule?: boolean } = {},
): Promise<Run> => {
  rejected = undefined
  const scenario = pickScenario(createChance(seed, 'scenario'))
  const world = createWorld(seed, scenario, {
    keepSchedule,
    ...(mutation !== undefined && { mutation: mutations[mutation] }),
  })
  const { scheduler, invariants, workers } = world
  scheduler.note(`seed ${seed}: ${JSON.stringify(scenario)}`)
  let isOver = false
  const crash = (error: unknown) =>
    invariants.fail(error instanceof Error ? (error.stack ?? error.message) : String(error))
  runProgram(world, scenario)
    .then(() => runToRest(world))
    .catch(crash)
    .finally(() => {
      isOver = true
    })
  await scheduler
    .run(
      () => isOver || invariants.failure() !== undefined,
      (owner) => {
        if (rejected !== undefined) crash(rejected)
        if (world.ambushes.length > 0) strike(world)
        for (const worker of workers) {
          if (!worker.isTurnOf(owner) || !worker.countStep()) continue
          world.meet('kill')
          worker.stop('the browser kills')
        }
      },
    )
    .catch(crash)
  if (!isOver && invariants.failure() === undefined) invariants.fail('nothing happens any more')
  return {
    ...{ seed, steps: scheduler.steps(), hash: scheduler.hash(), failure: invariants.failure() },
    ...{ schedule: scheduler.schedule, reached: world.reached },
  }
}
