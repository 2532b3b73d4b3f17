/**
 * What happens in one run: what users and pages do, and what goes wrong meanwhile.
 */
import type { Chance } from './chance.js'
import type { State } from './coverage.js'
import { tokenFaults } from './faults.js'
import {
  type Action,
  actionWeights,
  type Scenario,
  type Trouble,
  troubleWeights,
} from './scenario.js'
import type { Tab } from './tab.js'
import type { World } from './world.js'

/** Waits in virtual time. */
export const pause = (world: World, ms: number, label = 'some time has passed'): Promise<void> =>
  new Promise((resolve) => {
    world.scheduler.add(label, resolve, { in: ms })
  })

const users = ['alice', 'alice', 'alice', 'bob'] as const

const tabsHere = (world: World): Tab[] => world.tabs.filter((tab) => tab.isHere() && !tab.isFrozen)

const aTab = (world: World): Tab => {
  const here = tabsHere(world)
  return here.length > 0 ? world.chance.pick(here) : world.openTab()
}

/** What users and pages do. */
const actions = {
  requests: (world) => {
    const { chance, scheduler } = world
    const tabs = tabsHere(world)
    const count = chance.between(2, 6)
    // At once, or as an app that keeps asking.
    const times = chance.pick([
      [0, 0, 50],
      [0, 0, 50],
      [0, 500, 2_000, 6_000, 15_000],
    ])
    for (let index = 0; index < count; index++) {
      const tab = tabs.length > 0 ? chance.pick(tabs) : world.openTab()
      scheduler.add('a request', () => tab.isHere() && tab.fetch(), { in: chance.pick(times) })
    }
  },
  renew: (world) => {
    for (const tab of tabsHere(world).slice(0, world.chance.between(1, 3))) tab.ask('renew')
  },
  'check session': (world) => {
    for (const tab of tabsHere(world).slice(0, world.chance.between(1, 2))) tab.ask('checkSession')
  },
  'sign in': (world) => {
    const { chance } = world
    const user = chance.is(0.85) ? { signsIn: chance.pick(users) } : { cancels: true }
    aTab(world).login(user)
  },
  'another user': (world) => {
    aTab(world).login({ signsIn: world.chance.pick(['bob', 'carol']) })
  },
  logout: (world) => {
    world.meet('logout')
    aTab(world).logout(world.chance.is(0.5))
  },
} satisfies Record<Action, (world: World) => void>

const clockJumps = [3_600_000, -3_600_000, -86_400_000, 31_536_000_000] as const

/** What goes wrong; some of it ends by itself. */
const troubles = {
  'a token fault': ({ faults, chance }) => {
    for (let count = chance.pick([1, 1, 2, 3]); count > 0; count--) {
      faults.arm(chance.pick(tokenFaults))
    }
  },
  'trouble at the token endpoint': ({ faults, chance, scheduler }) => {
    faults.setTrouble({ kind: chance.pick(tokenFaults), share: chance.pick([0.5, 1]) })
    const end = () => faults.setTrouble(undefined)
    scheduler.add('the trouble ends', end, { in: chance.pick([20_000, 120_000, 900_000]) })
  },
  'a kill': ({ chance, workers }) => {
    const count = chance.pick([1, 1, 2, 3])
    const steps = chance.pick([1, 3, 10, 30, 70])
    const alive = workers.filter((worker) => worker.isAlive())
    for (let index = 0; index < count && alive.length > 0; index++) {
      chance.pick(alive).killAfter(chance.between(1, steps))
    }
  },
  'idle workers stop': (world) => {
    // Somebody looks into the other tabs; then their workers have nothing to do.
    for (const tab of tabsHere(world)) tab.askSession(() => {})
    world.scheduler.add('idle workers stop', () => stopIdleWorkers(world, 1), { in: 50 })
  },
  'somebody signs out': (world) => actions.logout(world),
  'somebody else is there at once': (world) => {
    aTab(world).login({ signsIn: world.chance.pick(['bob', 'carol']), isQuick: true })
  },
  offline: (world) => {
    const { scheduler, chance } = world
    world.meet('offline')
    world.onlineSince = Number.POSITIVE_INFINITY
    const back = () => {
      // At the end everything is healed, and then there is nothing to come back from.
      if (world.isOnline) return
      world.onlineSince = scheduler.time()
      for (const tab of tabsHere(world)) if (chance.is(0.7)) tab.ask('online')
    }
    scheduler.add('back online', back, { in: chance.pick([100, 5_000, 60_000, 600_000]) })
  },
  'the clock jumps': (world) => {
    const { chance } = world
    world.meet('clock jump')
    world.setClock(chance.is(0.3) ? 0 : world.clockError + chance.pick(clockJumps))
  },
  'a tab is closed': (world) => {
    const open = world.tabs.filter((tab) => !tab.isClosed())
    if (open.length === 0) return
    world.meet('tab closed')
    world.chance.pick(open).close()
  },
  'the disk is full': (world) => {
    const { scheduler, chance } = world
    world.meet('disk full')
    world.isDiskFull = true
    const end = () => {
      world.isDiskFull = false
    }
    scheduler.add('the disk has room', end, { in: chance.pick([100, 20_000]) })
  },
  'everything is revoked': (world) => {
    world.meet('revoked at the server')
    world.server.revokeAll()
  },
  'the cookie at the server changes': ({ server, chance }) => {
    server.setBrowserUser(chance.pick([undefined, undefined, 'bob']))
  },
  'hidden frames fare otherwise': ({ server, chance }) => {
    server.kind.silentLogin = chance.pick(['works', 'works', 'no cookies', 'hangs', 'blocked'])
  },
  'access tokens are spoiled': ({ server }) => server.spoilAccessTokens(),
  'the API refuses every token': ({ server, chance, scheduler }) => {
    server.refuseAtApi(true)
    const end = () => server.refuseAtApi(false)
    scheduler.add('the API takes tokens again', end, { in: chance.pick([5_000, 60_000]) })
  },
  'the disk is slow': (world) => {
    world.isDiskSlow = true
    world.invariants.calls.diskChanges()
    const end = () => {
      world.invariants.calls.diskChanges()
      world.isDiskSlow = false
      world.diskSlowUntil = world.scheduler.time()
    }
    world.scheduler.add('the disk is fast', end, { in: 30_000 })
  },
  'trouble at the API': (world) => {
    const { faults, chance, scheduler } = world
    faults.setApiTrouble(chance.pick([0.5, 1]))
    for (const tab of tabsHere(world)) tab.fetch()
    scheduler.add('the API is well', () => faults.setApiTrouble(0), { in: 30_000 })
  },
} satisfies Record<Trouble, (world: World) => void>

/** When trouble comes: before or during what is done next, or as soon as a state is reached. */
const pickMoment = (world: World): 'before' | 'meanwhile' | State => {
  const { chance } = world
  // States that are rare are not let pass.
  if (chance.is(0.75)) {
    const state = world.state()
    if (state === 'pausing') return state
    if (state === 'outcome unknown') return 'refreshing again'
  }
  if (world.faults.areLasting() && chance.is(0.4)) {
    return chance.pick(['pausing', 'refreshing again'] as const)
  }
  const when = chance.pick(['before', 'meanwhile', 'in a state'] as const)
  return when === 'in a state' ? pickState(chance) : when
}

/** The rarer it is, the more often it is waited for. */
const pickState = (chance: Chance): State =>
  chance.weighted({
    'signed out': 1,
    ended: 2,
    'signed in': 1,
    refreshing: 2,
    'refreshing again': 5,
    'outcome unknown': 2,
    pausing: 5,
    'no refresh token': 2,
    'silent login': 3,
    'signing in': 1,
  })

const stopIdleWorkers = (world: World, share: number) => {
  for (const worker of world.workers) {
    if (!worker.isAlive() || !worker.isIdle() || !world.chance.is(share)) continue
    world.meet('idle stop')
    worker.stop('the browser stops')
  }
}

/** ms from one episode to the next */
const gapFor = (world: World): number => {
  const { chance, server } = world
  const lifetime = (server.kind.lifetime ?? 3600) * 1000
  // Who has just failed tries again soon.
  const isPausing = world.state() === 'pausing'
  const kind = chance.weighted({
    none: 2,
    short: isPausing ? 20 : 5,
    expiry: 5,
    medium: 1,
    long: 1,
  })
  switch (kind) {
    case 'none':
      return chance.pick([0, 50, 100, 150])
    case 'short':
      return chance.pick([500, 2_000, 5_000, 10_000, 14_000, 19_000])
    case 'expiry':
      return Math.max(0, lifetime + chance.pick([-70_000, -20_000, -1_000, 0, 1_000, 40_000]))
    case 'medium':
      return chance.between(1, 10) * 60_000
    case 'long':
      return chance.between(1, 3) * 3_600_000
  }
}

/** What happens in one run, as its seed would have it. */
export const runProgram = async (
  world: World,
  { tabs, episodes, mood, plague, habit }: Scenario,
): Promise<void> => {
  const { chance, scheduler, faults } = world
  for (let index = 0; index < tabs; index++) world.openTab()
  if (chance.is(0.95)) {
    aTab(world).login({ signsIn: 'alice' })
    await pause(world, 90_000)
  }
  faults.setMood(mood)
  for (let episode = 0; episode < episodes; episode++) {
    const gap = gapFor(world)
    await pause(world, gap, `episode ${episode + 1}`)
    // A worker without events is stopped after half a minute, mostly.
    if (gap > 30_000) stopIdleWorkers(world, 0.7)
    if (world.tabs.filter((tab) => !tab.isClosed()).length === 0 || chance.is(0.1)) world.openTab()
    for (const tab of world.tabs) {
      tab.visible = chance.is(0.6)
      tab.isFrozen = !tab.visible && chance.is(0.2)
    }
    const again = world.state() === 'outcome unknown' && chance.is(0.5)
    const action = again ? 'renew' : chance.weighted({ ...actionWeights, [habit]: 10 })
    for (let count = chance.pick([0, 1, 1, 2]); count > 0; count--) {
      const moment = pickMoment(world)
      const isRare = moment === 'refreshing again' || moment === 'pausing'
      const trouble = isRare
        ? chance.pick(Object.keys(troubles) as Trouble[])
        : chance.weighted({ ...troubleWeights, [plague]: 15 })
      const hit = () => {
        scheduler.note(`** ${trouble}`)
        troubles[trouble](world)
      }
      // Before it, while it is under way, or when it gets to where it hurts.
      if (moment === 'before') hit()
      else if (moment === 'meanwhile') {
        scheduler.add('trouble', hit, { in: chance.pick([0, 50, 100, 300, 2_000]) })
      } else world.ambushes.push({ state: moment, strike: hit })
    }
    scheduler.note(`** ${action}`)
    actions[action](world)
    // Something else while this is under way.
    if (chance.is(0.3)) {
      const other = chance.weighted({ requests: 4, renew: 2, logout: 1, 'sign in': 1 })
      scheduler.add(`also: ${other}`, () => actions[other](world), {
        in: chance.pick([0, 50, 100, 300]),
      })
    }
  }
  // What was to go wrong a little later has done so by then.
  await pause(world, 5_000)
}
