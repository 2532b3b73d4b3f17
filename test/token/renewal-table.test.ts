// Goes through every cell of the two tables in docs/storage.md: what a renewal does, and what a
// worker finds after another one was stopped.
import { describe, expect, test } from 'vitest'
import { TokenError } from '../../src/shared/errors.js'
import { dpop } from '../../sw/server/dpop.js'
import { withTokens } from '../../sw/session/active-record.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import type { SilentLogin } from '../../sw/token/silent-login.js'
import { readTable } from '../support/docs.js'
import { json, type SeenRequest } from '../support/fake-authorization-server.js'
import { type Fetch, settle } from '../support/fake-platform.js'
import { createUnitWorld, type UnitWorld, type WorldOptions } from '../support/worker-parts.js'

const renewal = readTable('docs/storage.md', 'renewal')
const stopped = readTable('docs/storage.md', 'stopped')

interface Row {
  record?: Partial<ActiveRecord>
  world?: WorldOptions
  /** What has happened at the server before. */
  prepare?: (world: UnitWorld, record: ActiveRecord) => void
}

/** The server has replaced this refresh token: its answer got lost. */
const use = ({ server }: UnitWorld, { refreshToken = '' }: ActiveRecord) => {
  server.grant({ params: new URLSearchParams({ refresh_token: refreshToken }) } as SeenRequest)
}
const lost = () => ({ refreshSentAt: Date.now() - 60_000 })

const dpopKey = await dpop()({
  store: {
    read: async () => undefined,
    readDpop: async () => undefined,
    writeDpop: async () => {},
  },
  platform: { fetch, now: Date.now },
  reportProblem: async () => {},
}).keyFor(undefined)

const bound = (more: WorldOptions['server'] = {}): Partial<Row> => ({
  world: { options: { dpop: dpop() }, server: { dpop: {}, ...more } },
  record: { dpopKey },
})

const rows: Record<string, Row> = {
  none: { record: { refreshToken: undefined } },
  good: {},
  dead: { prepare: ({ server }) => server.setGrant(undefined) },
  'good, with dpop, and the browser has sent the proof twice': {
    ...bound({ rotate: false }),
    prepare: ({ server, config: { clientId } }, { refreshToken }) => {
      server.setGrant({ clientId, subject: 'alice', refreshToken, jkt: dpopKey.jkt })
      server.answers.push((request) => {
        server.grant(request)
        return server.grant(request)
      })
    },
  },
  'dead, with dpop': { ...bound(), prepare: ({ server }) => server.setGrant(undefined) },
  'good, but the server wants the user': {
    prepare: ({ server }) => server.answers.push(() => json({ error: 'login_required' }, 400)),
  },
  'good, but the server cannot answer': {
    prepare: ({ server }) => server.answers.push(() => json({}, 503)),
  },
  'refused in other words': {
    prepare: ({ server }) => server.answers.push(() => new Response('', { status: 404 })),
  },
  'refused in other words, for two minutes': {
    record: {
      retry: {
        failures: 3,
        notBefore: 0,
        refused: { first: Date.now() - 120_000, last: Date.now() - 10_000 },
      },
    },
    prepare: ({ server }) => server.answers.push(() => new Response('', { status: 404 })),
  },
  'unknown, and not used': { record: lost() },
  'unknown, and used': { record: lost(), prepare: use },
  'unknown, and used, frames never worked': {
    record: { ...lost(), silentLoginWorks: undefined },
    prepare: use,
  },
  'unknown, and used, inside rotationGrace': {
    world: { options: { rotationGrace: 120 }, server: { grace: true } },
    record: lost(),
    prepare: use,
  },
}

type Frame = (worker: ReturnType<UnitWorld['createWorker']>) => SilentLogin
const fails =
  (kind: 'refused' | 'failed', code: 'login_required' | 'timeout' | 'no_page'): Frame =>
  // The message is for the reader of a failing test only.
  () =>
  async () => ({ kind, error: new TokenError(code, 'As the column says.') })

const columns: Record<string, Frame> = {
  'The frame signs in':
    ({ session }) =>
    async ({ record }) => {
      const tokens = { accessToken: 'from-the-frame', issuedAt: Date.now() }
      const after = await session.changeOwn((record as ActiveRecord).session, (current) =>
        withTokens(current, tokens),
      )
      return { kind: 'signed-in', record: after as ActiveRecord }
    },
  'The server says no': fails('refused', 'login_required'),
  'The frame brings nothing': fails('failed', 'timeout'),
  'No page can open one': fails('failed', 'no_page'),
}

const never = () => new Promise<never>(() => {})
type Stop =
  | 'before the intent is on disk'
  | 'before the server has the request'
  | 'after the server has acted'
  | 'after the answer is on disk'
  | 'during the frame'

const setUp = async (row: Row, column: string) => {
  const world = createUnitWorld(row.world)
  const record = await world.signIn({ silentLoginWorks: true, ...row.record })
  await world.createWorker().authorizationServer.refresh('a first request, for the metadata')
  world.server.setGrant({
    ...world.config,
    subject: 'alice',
    refreshToken: record.refreshToken ?? 'none that is held here',
  })
  row.prepare?.(world, record)
  world.server.requests.length = 0

  /** Renews in a worker of its own; the answer says what was tried, and what came of it. */
  const renew = async (stop?: Stop) => {
    const tried: string[] = []
    let isStopped = false
    let stopped = () => {}
    const whenStopped = new Promise<void>((resolve) => {
      stopped = resolve
    })
    const stopHere = () => {
      isStopped = true
      stopped()
      return never()
    }
    const fetch: Fetch = async (input, init) => {
      if (String(input) !== world.server.metadata.token_endpoint) return world.server.fetch(input)
      tried.push('refresh')
      if (stop === 'before the server has the request') return await stopHere()
      const answer = await world.server.fetch(input, init)
      return stop === 'after the server has acted' ? await stopHere() : answer
    }
    const worker = world.createWorker({
      fetch,
      silentLogin: async (request) => {
        if (column !== 'No page can open one') {
          tried.push('frame')
          if (stop === 'during the frame') return await stopHere()
        }
        return await (columns[column] as Frame)(worker)(request)
      },
      ...(stop === 'before the intent is on disk' && { lock: stopHere }),
      onStored: ({ refreshSentAt }) =>
        stop === 'after the answer is on disk' &&
        (tried.at(-1) === 'refresh' && refreshSentAt === undefined ? stopHere() : undefined),
    })
    const before = (await worker.store.read()) as ActiveRecord
    const result = worker.renewal.renew({ spoiled: before.accessToken })
    const outcome = await Promise.race([result, whenStopped.then(settle).then(() => undefined)])
    const after = await worker.store.read()
    if (outcome) await settle()
    const asked = worker.events.some(({ type }) => type === 'login-required')
    const ends = { token: 'renewed', 'signed-out': 'ended', unavailable: asked ? 'stale' : 'later' }
    const end = outcome && ends[outcome.kind]
    if (end === 'ended') expect(after).toMatchObject({ status: 'ended', reason: 'ended' })
    else expect(after?.status).toBe('active')
    return { isStopped, path: `${tried.join(', ')} → ${end}`.trim() }
  }
  return { ...world, renew }
}

describe('what a renewal does', () => {
  test('is said of every state of the refresh token', () => {
    expect([...renewal.keys()]).toEqual(Object.keys(rows))
  })

  for (const [title, cells] of renewal) {
    for (const [column, cell] of cells) {
      test(`${title}; ${column.toLowerCase()}: ${cell} (RF-07, RF-08, RF-09)`, async () => {
        const { renew } = await setUp(rows[title] as Row, column)
        expect((await renew()).path).toBe(cell)
      })
    }
  }
})

describe('after a worker was stopped', () => {
  for (const [title, cells] of stopped) {
    for (const [stop, next] of cells) {
      test(`${stop} (${title}), the next one goes on from: ${next} (RF-05, RF-07)`, async () => {
        let reached = 0
        for (const [column, expected] of renewal.get(next) ?? renewal.get(title) ?? []) {
          const world = await setUp(rows[title] as Row, column)
          const { isStopped } = await world.renew(stop as Stop)
          if (!isStopped) continue
          reached++
          world.browser.releaseLocks()
          expect((await world.renew()).path, column).toBe(expected)
        }
        if (next === '–') expect(reached).toBe(0)
        else expect(reached).toBeGreaterThan(0)
      })
    }
  }
})
