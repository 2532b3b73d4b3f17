/**
 * Puts together one browser profile with three workers and its tabs, and the servers.
 */
import { parseOptions } from '../../sw/options/parse-options.js'
import type { Page, Platform } from '../../sw/platform.js'
import { dpop } from '../../sw/server/dpop.js'
import { type Chance, createChance } from './chance.js'
import { type Channel, createChannel } from './channel.js'
import { pairOf, type State, stateOf } from './coverage.js'
import { createDatabase, type Database } from './database.js'
import { createFaults, type Fault, type Faults } from './faults.js'
import { enter } from './globals.js'
import { createInvariants, type Invariants } from './invariants.js'
import { createLocks, type Locks } from './locks.js'
import { createModelServer, issuer, type ModelServer } from './model-server.js'
import type { Mutation } from './mutations.js'
import { createNetwork, type Network } from './network.js'
import { createCaches, createOfflineApi } from './offline.js'
import type { Scenario } from './scenario.js'
import { createScheduler, type Owner, type Scheduler } from './scheduler.js'
import { createTab, type Tab } from './tab.js'
import { createWorker, type Worker } from './worker.js'

const root = 'https://app.example/'
const clientId = 'simulated-app'
/** When a run begins, ms since 1970. */
const beginning = Date.UTC(2030, 0, 1)

/** ms that a worker may need on a slow disk to read who is signed in */
const slowReadingTime = 15_000
/** ms after which no decision is under way that was made before it */
const aWhile = 40_000
/** ms for one of the steps that a transaction takes on a slow disk */
const slowTask = [0, 5, 25, 50, 400] as const

/** One browser profile with its workers and tabs, and the servers. */
export interface World {
  /** Tokens are in the memory of each worker. */
  inMemory: boolean
  scheduler: Scheduler
  chance: Chance
  jitter: Chance
  server: ModelServer
  network: Network
  faults: Faults
  database: Database
  locks: Locks
  channel: Channel
  invariants: Invariants
  workers: Worker[]
  tabs: Tab[]
  /** Hidden frames under way. */
  frames: Set<Owner>
  /** Sign-ins in tabs under way. */
  signIns: Set<Owner>
  readonly isOnline: boolean
  /** Infinity while it is offline. */
  onlineSince: number
  isDiskFull: boolean
  /** When the disk last refused a write. */
  refusedAt: number
  isDiskSlow: boolean
  diskSlowUntil: number
  /** ms by which the device's clock is wrong. */
  readonly clockError: number
  setClock(error: number): void
  /** The device's clock. */
  now(): number
  /** The open pages in a scope. */
  pages(scope?: string): Page[]
  newRequestId(): string
  openTab(): Tab
  /** Pairs of a state and a fault that came upon it. */
  reached: Map<string, number>
  meet(fault: Fault): void
  state(): State
  /** What waits for a state to come. */
  ambushes: { state: State; strike: () => void }[]
}

export const createWorld = (
  seed: number,
  scenario: Scenario,
  options: { mutation?: Mutation; keepSchedule?: boolean } = {},
): World => {
  const chance = createChance(seed, 'world')
  const scheduler = createScheduler(createChance(seed, 'schedule'), options.keepSchedule ?? false)
  const trueTime = () => beginning + scheduler.time()
  const server = createModelServer(scenario.server, trueTime, createChance(seed, 'server'))
  const faults = createFaults(createChance(seed, 'faults'))
  const frames = new Set<Owner>()
  const signIns = new Set<Owner>()
  const reached = new Map<string, number>()
  const tabs: Tab[] = []
  let requests = 0
  let committedAt = 0
  const clock = { error: 0, setAt: Number.NEGATIVE_INFINITY }

  const isLongSince = (time: number) => scheduler.time() - time > aWhile
  const couldSignInSilently = () =>
    isLongSince(world.onlineSince) &&
    tabs.some((tab) => tab.isHere() && !tab.isFrozen && isLongSince(tab.hereSince()))
  // What was kept in memory meanwhile is written with the next change.
  const diskRefused = () => !isLongSince(world.refusedAt) || world.refusedAt > committedAt
  // What has piled up on a slow disk takes a while.
  const readingTime = () =>
    world.isDiskSlow || !isLongSince(world.diskSlowUntil) ? slowReadingTime : 0
  const inMemory = scenario.options.storage === 'memory'
  const rotationGrace = (scenario.options.rotationGrace ?? 0) * 1000
  const invariants = createInvariants(
    scheduler,
    server,
    {
      ...{ couldSignInSilently, diskRefused, rotationGrace },
      now: () => world.now(),
      isClockSteady: () => isLongSince(clock.setAt),
      isClockRight: () => clock.error === 0 && isLongSince(clock.setAt),
      isOnline: () => world.isOnline,
      inMemory,
      leeway: (scenario.options.leeway ?? 60) * 1000,
    },
    readingTime,
    () => meet('another user'),
  )

  const state = (isUserChange = false) =>
    stateOf(invariants.record(), world.now(), {
      // Where one brings another user, it is the others that this comes upon.
      signIn: signIns.size > (isUserChange ? 1 : 0),
      frame: frames.size > 0,
      refresh: invariants.refreshUnderWay(),
    })

  const meet = (fault: Fault) => {
    const now = state(fault === 'another user')
    const pair = pairOf(now, fault)
    reached.set(pair, (reached.get(pair) ?? 0) + 1)
    scheduler.note(`  -- ${fault}, while: ${now}`)
  }

  const network = createNetwork(
    scheduler,
    createChance(seed, 'network'),
    server,
    faults,
    () => world.isOnline,
    {
      ...{ sent: invariants.sent, ended: invariants.ended, met: meet },
      ...{ seen: invariants.requests.seen, epoch: invariants.requests.epoch },
    },
  )
  const caches = createCaches(scheduler)
  const configFor = (scope: string) => (fetch: Platform['fetch']) =>
    parseOptions(
      {
        issuer,
        clientId,
        apis: [createOfflineApi(scenario.offline, { scope, caches, fetch })],
        scope: 'openid offline_access',
        ...(scenario.server.dpop && { dpop: dpop() }),
        ...scenario.options,
      },
      scope,
    )
  const database = createDatabase(createChance(seed, 'disk'), {
    scheduler,
    isFull: () => world.isDiskFull,
    onRefused: () => {
      world.refusedAt = scheduler.time()
    },
    onCommit: (record, owner) => {
      invariants.committed(record, owner)
      committedAt = scheduler.time()
    },
  })

  const world: World = {
    ...{ inMemory, scheduler, chance, server, network, faults, database, invariants },
    ...{ frames, signIns, tabs, reached, state, meet },
    jitter: createChance(seed, 'jitter'),
    locks: createLocks(scheduler, invariants.lock),
    channel: createChannel(scheduler, createChance(seed, 'channel')),
    workers: [],
    ambushes: [],
    get isOnline() {
      return world.onlineSince < Number.POSITIVE_INFINITY
    },
    onlineSince: 0,
    isDiskFull: false,
    refusedAt: Number.NEGATIVE_INFINITY,
    isDiskSlow: false,
    diskSlowUntil: Number.NEGATIVE_INFINITY,
    get clockError() {
      return clock.error
    },
    setClock: (error) => {
      clock.error = error
      clock.setAt = scheduler.time()
    },
    now: () => trueTime() + world.clockError,
    pages: (scope = root) =>
      tabs
        .filter((tab) => tab.scope.startsWith(scope))
        .map((tab) => tab.page())
        .filter((page) => page !== undefined),
    newRequestId: () => String(++requests),
    openTab: () => {
      const tab = createTab(world, `tab-${tabs.length + 1}`, chance.pick(world.workers))
      tabs.push(tab)
      tab.open()
      return tab
    },
  }
  world.workers = ['a', 'b', 'c'].map((name, index) => {
    const scope = root + (scenario.folders[index] ?? '')
    const { mutation } = options
    return createWorker(world, `worker-${name}`, { scope, configFor: configFor(scope), mutation })
  })
  const disk = createChance(seed, 'slow disk')
  enter({
    scheduler,
    secrets: createChance(seed, 'secrets'),
    caches,
    now: world.now,
    diskTakes: () => (world.isDiskSlow ? disk.pick(slowTask) : 0),
  })
  return world
}
