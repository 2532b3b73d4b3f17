/**
 * What a seed picks before anything happens: the kind of server, the options, and what there will
 * be more of than in other runs.
 */
import type { TokenWorkerOptions } from '../../sw/options/options.js'
import type { Chance } from './chance.js'
import { type TokenFault, tokenFaults } from './faults.js'
import type { ServerKind } from './model-server.js'
import type { StrategyKind } from './offline.js'

/** How often users do what, compared to each other. */
export const actionWeights = {
  requests: 10,
  renew: 3,
  'check session': 2,
  'sign in': 2,
  'another user': 1,
  logout: 1,
}

/** How often what goes wrong, compared to each other. */
export const troubleWeights = {
  'a token fault': 6,
  'trouble at the token endpoint': 3,
  'a kill': 6,
  'idle workers stop': 2,
  'somebody signs out': 2,
  'somebody else is there at once': 2,
  offline: 2,
  'the clock jumps': 2,
  'a tab is closed': 2,
  'the disk is full': 1,
  'the disk is slow': 1,
  'everything is revoked': 1,
  'the cookie at the server changes': 1,
  'hidden frames fare otherwise': 1,
  'access tokens are spoiled': 3,
  'the API refuses every token': 1,
  'trouble at the API': 2,
}

export type Action = keyof typeof actionWeights
export type Trouble = keyof typeof troubleWeights

/** What a seed picks before anything happens. */
export interface Scenario {
  server: ServerKind
  options: Partial<TokenWorkerOptions>
  /** Of the scopes of the three workers. */
  folders: readonly string[]
  /** What the app keeps of its API. */
  offline: { strategy?: StrategyKind; queue: boolean }
  tabs: number
  /** What the token endpoint suffers from all the time. */
  mood?: { kind: TokenFault; share: number }
  /** What goes wrong more often than anything else. */
  plague: Trouble
  /** What users do more often than anything else. */
  habit: Action
  /** How many things the program has the users, the browser and the servers do. */
  episodes: number
}

const pickServer = (chance: Chance): ServerKind => ({
  rotation: chance.weighted({ strict: 3, grace: 2, none: 1 }),
  grace: chance.pick([2_000, 10_000, 60_000]),
  remembersConsent: chance.is(0.5),
  silentLogin: chance.weighted({ works: 6, 'no cookies': 3, hangs: 1, blocked: 1 }),
  silentRefreshToken: chance.is(0.4),
  refreshTokens: chance.is(0.9),
  lifetime: chance.pick([3, 30, 60, 300, 300, 3600, 3600, undefined]),
  revokesAccessTokens: chance.is(0.5),
  sharesGrants: chance.is(0.3),
  refreshIdToken: chance.is(0.5),
  honoursHint: chance.is(0.7),
})

const pickOffline = (chance: Chance): Scenario['offline'] => {
  const strategy = chance.pick([
    undefined,
    undefined,
    'network first',
    'stale while revalidate',
  ] as const)
  return { ...(strategy && { strategy }), queue: chance.is(0.3) }
}

const dpopKinds = ['without nonces', 'with nonces'] as const

export const pickScenario = (chance: Chance): Scenario => {
  const server: ServerKind = {
    ...pickServer(chance),
    ...(chance.is(0.2) && { dpop: chance.pick(dpopKinds) }),
  }
  // Whoever runs the app knows of the grace, or not.
  const rotationGrace = server.rotation === 'grace' && chance.is(0.6) ? server.grace / 1000 : 0
  return {
    server,
    folders: chance.is(0.3) ? ['one/', 'one/', 'other/'] : [],
    offline: pickOffline(chance),
    options: {
      leeway: chance.pick([0, 60, 60]),
      silentLoginTimeout: chance.pick([2, 10]),
      rotationGrace,
      storage: chance.is(0.15) ? 'memory' : 'indexeddb',
    },
    tabs: chance.between(1, 5),
    plague: chance.pick(Object.keys(troubleWeights) as Trouble[]),
    habit: chance.pick(Object.keys(actionWeights) as Action[]),
    episodes: chance.between(4, 9),
    ...(chance.is(0.25) && {
      mood: { kind: chance.pick(tokenFaults), share: chance.pick([0.3, 0.6, 0.9]) },
    }),
  }
}
