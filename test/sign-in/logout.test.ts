import { describe, expect, test } from 'vitest'
import type { ActiveRecord } from '../../sw/session/records.js'
import { createSession } from '../../sw/session/session.js'
import { createLogout } from '../../sw/sign-in/logout.js'
import { json, jwt } from '../support/fake-authorization-server.js'
import { type Fetch, noNetwork, settle } from '../support/fake-platform.js'
import {
  createUnitWorld,
  readDatabase,
  visitOf,
  type WorldOptions,
} from '../support/worker-parts.js'

const app = 'https://app.example/'

const createWorld = async (options: WorldOptions & { fetch?: Fetch } = {}) => {
  const world = createUnitWorld(options)
  const worker = world.createWorker(options)
  const before = await world.signIn({ idToken: 'the-id-token' })
  const { authorizationServer, transactions, session, landing } = worker
  const logout = createLogout({
    config: world.config,
    landing,
    server: authorizationServer,
    transactions,
    session,
  })
  const kept: Promise<unknown>[] = []
  const begin = (input: { returnTo?: string; local?: boolean } = {}) =>
    logout.begin(input, (work) => void kept.push(work))
  const visit = async (url: string) =>
    (await logout.visit(visitOf(url))).headers.get('location') ?? ''
  return { ...world, ...worker, before, logout, begin, kept, visit }
}

describe('signing out', () => {
  test('forgets the session, tells the pages, and revokes behind it (SE-01, SE-02)', async () => {
    const { begin, store, events, server, kept, before } = await createWorld()
    await begin()
    expect(await store.read()).toEqual({
      ...{ status: 'ended', generation: 2, reason: 'logout' },
      ...{ lastEnd: expect.any(String), lastSignOut: expect.any(String) },
    })
    expect(events).toEqual([{ type: 'signed-out', reason: 'logout' }])
    await Promise.all(kept)
    expect(server.revoked).toEqual([before.refreshToken])
  })

  test('goes to the server with a hint, and back to the app’s root (SE-04)', async () => {
    const { begin, visit, logout, config, server } = await createWorld()
    const { url, atServer } = await begin()
    expect(atServer).toBe(true)
    expect(url).toMatch(/^https:\/\/app\.example\/tokenward\/logout\.html\?ticket=[\w-]{43}$/)
    const away = new URL(await visit(url!))
    expect(away.origin + away.pathname).toBe(server.metadata.end_session_endpoint)
    const params = Object.fromEntries(away.searchParams)
    expect(params).toEqual({
      client_id: config.clientId,
      id_token_hint: 'the-id-token',
      post_logout_redirect_uri: `${app}tokenward/logout.html`,
      state: expect.stringMatching(/^[\w-]{43}$/),
    })
    expect(await logout.outcome(url!)).toEqual({ server: 'unknown' })
    expect(await visit(`${app}tokenward/logout.html?state=${params['state']}`)).toBe(`${app}#`)
    expect(await logout.outcome(url!)).toEqual({ server: 'ended' })
  })

  const idToken = jwt({ sub: 'alice' }, { alg: 'RS256', kid: 'old' })
  const published = (...kids: string[]) => ({
    keys: () => json({ keys: kids.map((kid) => ({ kid })) }),
  })
  test.each<[string, boolean, WorldOptions['server'], Partial<ActiveRecord>]>([
    ['whose key the server still publishes', true, published('new', 'old'), {}],
    ['whose key the server no longer publishes', false, published('new'), {}],
    ['whose keys cannot be had', true, { keys: () => new Response('', { status: 503 }) }, {}],
    ['whose keys are none', true, { keys: () => json({ keys: 'none' }) }, {}],
    ['that a silent login was refused with', false, published('old'), { hintRefused: true }],
    ['that is too long for some servers', false, published('old'), { idToken: 'x'.repeat(4_001) }],
  ])(
    'with a hint %s: it is sent? %s; the way back is there',
    async (_title, sent, server, more) => {
      const { begin, visit, session, config } = await createWorld({ server })
      await session.changeOwn('session-1', (current) => ({ ...current, idToken, ...more }))
      const { url, atServer } = await begin()
      expect(atServer).toBe(true)
      const { searchParams } = new URL(await visit(url!))
      expect(searchParams.get('id_token_hint')).toBe(sent ? idToken : null)
      expect(searchParams.get('client_id')).toBe(config.clientId)
      expect(searchParams.get('post_logout_redirect_uri')).toBe(`${app}tokenward/logout.html`)
      const back = `${app}tokenward/logout.html?state=${searchParams.get('state')}`
      expect(await visit(back)).toBe(`${app}#`)
    },
  )

  test('does not wait for keys longer than for the server itself', async () => {
    const { begin, session, browser } = await createWorld({
      server: { keys: () => new Promise(() => {}) },
    })
    await session.changeOwn('session-1', (current) => ({ ...current, idToken }))
    const done = begin()
    await browser.pass(5_000)
    expect(await done).toMatchObject({ atServer: true })
  })

  test('comes back to where the page wants', async () => {
    const { begin, visit } = await createWorld()
    const { url } = await begin({ returnTo: `${app}bye?x#y` })
    const state = new URL(await visit(url!)).searchParams.get('state')
    expect(await visit(`${app}tokenward/logout.html?state=${state}`)).toBe(`${app}bye?x#y`)
  })

  test('does not come back to anywhere else (AR-10)', async () => {
    const { begin, store } = await createWorld()
    await expect(begin({ returnTo: 'https://evil.example' })).rejects.toMatchObject({
      code: 'invalid_input',
    })
    expect(await store.read()).toMatchObject({ status: 'active' })
  })

  test('locally stays here, or goes to returnTo, and still revokes', async () => {
    const { begin, kept, server, store } = await createWorld()
    expect(await begin({ local: true })).toEqual({ atServer: false })
    await Promise.all(kept)
    expect(server.revoked).toHaveLength(1)
    expect(server.requests.map(({ url }) => new URL(url).pathname)).not.toContain('/')
    expect(await store.read()).toMatchObject({ status: 'ended' })
    expect(await begin({ local: true, returnTo: `${app}bye` })).toEqual({
      url: `${app}bye`,
      atServer: false,
    })
  })

  test('works offline (SE-02)', async () => {
    const { begin, store, events, kept } = await createWorld({ fetch: noNetwork })
    expect(await begin()).toEqual({ url: app, atServer: false })
    expect(await store.read()).toMatchObject({ status: 'ended' })
    expect(events).toHaveLength(1)
    await expect(Promise.all(kept)).resolves.toBeDefined()
  })

  test('works with a server that knows neither revocation nor logout (SE-04)', async () => {
    const metadata = { end_session_endpoint: undefined, revocation_endpoint: undefined }
    const { begin, server, kept, store } = await createWorld({ server: { metadata } })
    expect(await begin()).toEqual({ url: app, atServer: false })
    await Promise.all(kept)
    expect(server.revoked).toEqual([])
    expect(await store.read()).toMatchObject({ status: 'ended' })
  })

  test('uses the logoutUrl of the app where the server names none', async () => {
    const { begin, visit } = await createWorld({
      server: { metadata: { end_session_endpoint: undefined } },
      options: { logoutUrl: ({ clientId }) => `https://login.example/v2/logout?c=${clientId}` },
    })
    const { url, atServer } = await begin()
    expect(atServer).toBe(true)
    expect(await visit(url!)).toMatch(/^https:\/\/login\.example\/v2\/logout\?c=client-/)
  })

  test('uses the logoutUrl of the app also where the server names one', async () => {
    const { begin, visit, server } = await createWorld({
      options: { logoutUrl: ({ clientId }) => `https://login.example/out?logout_uri=${clientId}` },
    })
    const { url, atServer } = await begin()
    expect(atServer).toBe(true)
    expect(await visit(url!)).toMatch(/^https:\/\/login\.example\/out\?logout_uri=client-/)
    expect(server.requests.map(({ url }) => url)).not.toContain(server.metadata.jwks_uri)
  })

  test('works where nobody is signed in, and says nothing then', async () => {
    const { begin, session, events, server, kept } = await createWorld()
    await session.end('logout')
    events.length = 0
    await begin()
    await Promise.all(kept)
    expect({ events, revoked: server.revoked }).toEqual({ events: [], revoked: [] })
  })

  test('is not undone by a failure of a later step (SE-01)', async () => {
    const { authorizationServer, store, ...parts } = await createWorld()
    const broken = {
      ...authorizationServer,
      isReachable: () => Promise.reject(new Error('broken')),
      revoke: () => Promise.reject(new Error('broken')),
    }
    const kept: Promise<unknown>[] = []
    const logout = createLogout({ ...parts, server: broken })
    const done = logout.begin({}, (work) => void kept.push(work.catch(() => {})))
    expect(await done).toMatchObject({ atServer: false })
    expect(await store.read()).toMatchObject({ status: 'ended' })
  })
})

describe('a worker that is stopped while somebody signs out', () => {
  const steps = ['written', 'told', 'revoking', 'ticket', 'gone'] as const
  const secrets = {
    accessToken: 'the-access-token',
    refreshToken: 'the-refresh-token',
    idToken: 'the-id-token',
  }

  /** Signs out, with a worker that goes no further than to the end of a step. */
  const signOutUntil = async (last: (typeof steps)[number] | 'never') => {
    const world = createUnitWorld()
    const worker = world.createWorker()
    await world.signIn(secrets)
    const { authorizationServer, transactions, session, store } = worker
    const sent = { nonce: 'the-nonce', verifier: 'the-verifier', redirectUri: app }
    const ticket = await transactions.begin({ kind: 'login', returnTo: app })
    await transactions.depart(ticket, ['login'], sent)
    const done: string[] = []
    const reach = async (step: string) => {
      done.push(step)
      if (step === last) await new Promise(() => {})
    }
    const stopping = createSession({
      store: {
        ...store,
        update: async (next) => {
          const result = await store.update(next)
          await reach('written')
          return result
        },
      },
      config: world.config,
      platform: worker.platform,
      publish: () => reach('told'),
    })
    const logout = createLogout({
      config: world.config,
      landing: worker.landing,
      server: { ...authorizationServer, revoke: () => reach('revoking') },
      transactions: {
        ...transactions,
        begin: async (input) => {
          const answer = await transactions.begin(input)
          await reach('ticket')
          return answer
        },
      },
      session: stopping,
    })
    expect(await session.read()).toMatchObject({ status: 'active' })
    void logout.begin({}, () => {}).then(() => done.push('gone'))
    await settle()
    return { ...world, done, name: store.name }
  }

  test('does one thing after the other: what is on the disk first (SE-01)', async () => {
    expect((await signOutUntil('never')).done).toEqual(steps)
  })

  test.each(steps)('has signed out by the time that it is %s (SE-01)', async (step) => {
    const { done, name, createWorker } = await signOutUntil(step)
    expect(done).toContain(step)
    const next = createWorker()
    expect(await next.accessToken.get({ keepAlive: () => {}, canWait: true })).toMatchObject({
      kind: 'signed-out',
    })
    const report = next.session.report(await next.session.readAgain())
    expect(report).toEqual({ ended: 'logout' })
    expect(JSON.stringify(await readDatabase(name))).not.toContain('the-')
  })
})

test('a hint that a stopped worker has taken with it is missing, but the way is not (SE-04)', async () => {
  const { begin, createWorker, config, server } = await createWorld()
  const { url } = await begin()
  const { authorizationServer: server2, ...parts } = createWorker()
  const restarted = createLogout({ ...parts, config, server: server2 })
  const away = new URL((await restarted.visit(visitOf(url!))).headers.get('location') ?? '')
  expect(away.origin + away.pathname).toBe(server.metadata.end_session_endpoint)
  expect(away.searchParams.has('id_token_hint')).toBe(false)
  expect(away.searchParams.get('client_id')).toBe(config.clientId)
})

test('the hint of a logout is never on the disk (SE-01, ST-02)', async () => {
  const { begin, store } = await createWorld()
  await begin()
  expect(JSON.stringify(await readDatabase(store.name))).not.toContain('the-id-token')
})

describe('a visit of logout.html', () => {
  test.each(['', '?ticket=', '?ticket=made-up', '?state=', '?state=made-up', '?state=a&state=b'])(
    'with %j signs nobody out and leads to the app (AR-08)',
    async (query) => {
      const { visit, store } = await createWorld()
      expect(await visit(`${app}tokenward/logout.html${query}`)).toBe(`${app}#`)
      expect(await store.read()).toMatchObject({ status: 'active' })
    },
  )

  test('with a ticket works once, and within a minute (AR-08)', async () => {
    const { begin, visit, browser, server } = await createWorld()
    const first = (await begin()).url!
    const late = (await begin()).url!
    expect(await visit(first)).toContain(server.issuer)
    expect(await visit(first)).toBe(`${app}#`)
    browser.setClock(60_001)
    expect(await visit(late)).toBe(`${app}#`)
  })

  test('with the ticket of a sign-in starts nothing', async () => {
    const { visit, transactions } = await createWorld()
    const ticket = await transactions.begin({ kind: 'login', returnTo: app })
    expect(await visit(`${app}tokenward/logout.html?ticket=${ticket}`)).toBe(`${app}#`)
  })

  test('without a state ends the logout that is under way, and only that', async () => {
    const { begin, visit, logout, transactions, browser } = await createWorld()
    const back = `${app}tokenward/logout.html`
    const first = (await begin({ returnTo: `${app}other?bye=1` })).url!
    // It has not left yet, and neither has a sign-in anything to do with it.
    const login = await transactions.begin({ kind: 'login', returnTo: `${app}in` })
    await transactions.depart(login, ['login'])
    expect(await visit(back)).toBe(`${app}#`)
    const state = new URL(await visit(first)).searchParams.get('state')
    expect(await visit(`${back}?state=made-up`)).toBe(`${app}#`)
    expect(await visit(back)).toBe(`${app}other?bye=1#`)
    expect(await logout.outcome(first)).toEqual({ server: 'ended' })
    expect(await visit(back)).toBe(`${app}#`)
    expect(await visit(`${back}?state=${state}`)).toBe(`${app}other?bye=1#`)
    // Of two, the younger.
    await visit((await begin({ returnTo: `${app}a` })).url!)
    browser.setClock(1)
    await visit((await begin({ returnTo: `${app}b` })).url!)
    expect([await visit(back), await visit(back)]).toEqual([`${app}b#`, `${app}a#`])
    await visit((await begin({ returnTo: `${app}late` })).url!)
    browser.setClock(3_600_001)
    expect(await visit(back)).toBe(`${app}#`)
  })

  test('a second time with the same state leads to the same page', async () => {
    const { begin, visit } = await createWorld()
    const { url } = await begin({ returnTo: `${app}bye` })
    const state = new URL(await visit(url!)).searchParams.get('state')
    const back = `${app}tokenward/logout.html?state=${state}`
    expect([await visit(back), await visit(back)]).toEqual([`${app}bye#`, `${app}bye#`])
  })
})

test.each(['', 'nonsense', `${app}tokenward/logout.html`, `${app}?ticket=made-up`])(
  'the outcome of a logout at %j is unknown',
  async (url) => {
    const { logout } = await createWorld()
    expect(await logout.outcome(url)).toEqual({ server: 'unknown' })
  },
)
