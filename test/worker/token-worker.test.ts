import { wrap } from 'comlink'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Answer } from '../../src/shared/errors.js'
import { CANCEL_MARK, PROTOCOL, type WorkerCalls } from '../../src/shared/protocol.js'
import type { ApiPart, ConnectedWorker } from '../../sw/offline/api-part.js'
import type { TokenWorkerOptions } from '../../sw/options/options.js'
import type { Platform } from '../../sw/platform.js'
import { createStore } from '../../sw/session/store.js'
import { refusal } from '../../sw/sign-in/auth-response.js'
import { createTokenWorker } from '../../sw/token-worker.js'
import type { TraceStep } from '../../sw/trace.js'
import { json } from '../support/fake-authorization-server.js'
import { type FakePage, type Fetch, fakePage, settle } from '../support/fake-platform.js'
import {
  activeRecord,
  createUnitWorld,
  holdDatabase,
  readDatabase,
  workingOptions,
} from '../support/worker-parts.js'

const app = 'https://app.example/'
const api = 'https://api.example/orders'

const errors = vi.spyOn(console, 'error')
beforeEach(() => {
  errors.mockReset()
})
afterEach(() => {
  expect(errors).not.toHaveBeenCalled()
})

/** A request as a worker gets it. */
const requestTo = (url: string, more: Partial<Request> = {}): Request => {
  const request = new Request(url)
  for (const [name, value] of Object.entries(more)) Object.defineProperty(request, name, { value })
  return request
}

const createWorld = (options: Partial<TokenWorkerOptions> = {}) => {
  const world = createUnitWorld()
  const { browser, server } = world
  const trace: TraceStep[] = []
  const given = workingOptions({
    apis: ['https://api.example/', '/api/'],
    scope: 'openid offline_access',
    trace: (step) => trace.push(step),
    ...options,
  })
  /** What the API answers; by default, who is asking. */
  const apis = { answer: (authorization: string | null) => json({ authorization }) }
  const seen: { url: string; authorization: string | null }[] = []
  const network: Fetch = async (input, init) => {
    const url = String(input instanceof Request ? input.url : input)
    if (url.startsWith(server.issuer)) return await server.fetch(input, init)
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : {}))
    const authorization = headers.get('authorization')
    seen.push({ url, authorization })
    return apis.answer(authorization)
  }
  /** Starts the worker; a second call is the worker restarted, or a second one. */
  const start = (platform: Partial<Platform> = {}) => {
    const worker = createTokenWorker(given, { ...browser.platform(network), ...platform })

    const dispatch = (
      request: Request,
      ids: { clientId?: string; resultingClientId?: string } = {},
    ) => {
      let response: Promise<Response> | undefined
      const waiting: Promise<unknown>[] = []
      const event = {
        request,
        clientId: 'page-1',
        resultingClientId: 'page-1',
        ...ids,
        respondWith: (answer: Promise<Response>) => {
          response = answer
        },
        waitUntil: (work: Promise<unknown>) => void waiting.push(work),
      }
      const handled = worker.handle(event as never)
      return { handled, response, waiting }
    }

    const call = async <Name extends keyof WorkerCalls>(
      name: Name,
      input?: Parameters<WorkerCalls[Name]>[0],
      page = 'page-1',
    ): Promise<Awaited<ReturnType<WorkerCalls[Name]>>> => {
      const { port1, port2 } = new MessageChannel()
      const handled = worker.handle({
        data: { tokenward: PROTOCOL },
        origin: 'https://app.example',
        source: { id: page, type: 'window' },
        ports: [port2],
        waitUntil: () => {},
      } as never)
      expect(handled).toBe(true)
      const remote = wrap<Record<string, (input: unknown) => Promise<Answer<never>>>>(port1)
      const answer = await remote[name]!(input)
      port1.close()
      if (answer.ok) return answer.value
      throw Object.assign(new Error(answer.error.message), answer.error)
    }

    const navigate = async (url: string, more: Partial<Request> = {}, page = 'page-1') => {
      const { response } = dispatch(
        requestTo(url, { mode: 'navigate', destination: 'document', ...more }),
        { clientId: '', resultingClientId: page },
      )
      const answer = await response
      return answer?.headers.get('location') ?? ''
    }

    /** Signs in, all the way; the answer is where the browser ends up. */
    const signIn = async (subject = 'alice') => {
      const { url } = await call('login', { returnTo: `${app}here` })
      return await navigate(server.authorize(await navigate(url), subject).href)
    }

    const fetchApi = async (url = api) => await (await dispatch(requestTo(url)).response)?.json()

    return { worker, dispatch, call, navigate, signIn, fetchApi }
  }

  /** Opens a page that runs frames as a browser does. */
  const open = (id: string, worker: () => ReturnType<typeof start>, subject?: string): FakePage => {
    const page = fakePage({
      id,
      calls: {
        probe: () => ({ able: true, visible: true }),
        openFrame: async ({ url, doneUrl }) => {
          const frame = { destination: 'iframe' } as const
          const back = server.authorize(await worker().navigate(url, frame, 'frame'), subject)
          if (subject === undefined) {
            back.searchParams.delete('code')
            back.searchParams.set('error', 'login_required')
          }
          const end = await worker().navigate(back.href, frame, 'frame')
          const isDone = end.startsWith(doneUrl)
          return { end: isDone ? 'done' : 'timeout', loaded: true, isolated: false }
        },
      },
    })
    browser.pages.push(page)
    return page
  }

  const name = `tokenward ${given.issuer} ${given.clientId}`
  return { browser, server, apis, seen, trace, start, open, name }
}

describe('a token worker', () => {
  test('does nothing until it is asked: no request, lock, message or timer (CB-12)', async () => {
    const { browser, server, seen, start } = createWorld()
    start()
    await settle()
    expect({ requests: server.requests, seen, timers: browser.timers() }).toEqual({
      requests: [],
      seen: [],
      timers: 0,
    })
    expect(browser.locks).toEqual([])
    expect(browser.announcements).toEqual([])
  })

  test('answers synchronously or not at all', () => {
    const { dispatch, worker } = createWorld().start()
    expect(dispatch(requestTo(api))).toMatchObject({ handled: true, response: expect.any(Promise) })
    const other = dispatch(requestTo('https://other.example/'))
    expect(other).toEqual({ handled: false, response: undefined, waiting: [] })
    expect(worker.handle({ data: 'not ours', ports: [], source: null } as never)).toBe(false)
  })

  test('signs in, attaches the token, renews it, and signs out', async () => {
    const { browser, server, seen, trace, start, open } = createWorld()
    const { call, signIn, fetchApi } = start()
    const page = open('page-1', start, 'alice')
    expect(await call('session')).toEqual({})
    expect(await fetchApi()).toEqual({ authorization: null })
    expect(await signIn()).toBe(`${app}here#`)
    expect(await call('session')).toMatchObject({
      session: { claims: { sub: 'alice' }, state: 'fresh' },
    })
    const first = await fetchApi()
    expect(first.authorization).toMatch(/^Bearer access-token-1-/)
    expect(await fetchApi(`${app}api/x`)).toEqual(first)
    browser.setClock(3_600_000)
    expect((await fetchApi()).authorization).toMatch(/^Bearer access-token-2-/)
    await call('renew')
    expect((await fetchApi()).authorization).toMatch(/^Bearer access-token-3-/)
    expect(await call('logout', { local: true })).toEqual({ atServer: false })
    expect(await call('session')).toEqual({ ended: 'logout' })
    expect(await fetchApi()).toEqual({ authorization: null })
    await settle()
    expect(server.revoked).toHaveLength(1)
    expect(page.events.map(({ type }) => type)).toEqual(
      expect.arrayContaining(['signed-in', 'renewed', 'signed-out']),
    )
    expect(seen).toHaveLength(6)
    expect(trace.map(({ step }) => step)).toContain('refreshed')
  })

  test('tells no secret to pages, trace, announcements or names (PV-01, BR-04)', async () => {
    const { browser, server, trace, start, open } = createWorld()
    const { call, signIn, fetchApi } = start()
    const page = open('page-1', start, 'alice')
    await signIn()
    await fetchApi()
    browser.setClock(3_600_000)
    await fetchApi()
    await call('checkSession')
    const told = JSON.stringify([
      ...[page.events, trace, browser.announcements, browser.locks, await call('session')],
      await call('hello'),
      await call('logout', {}),
    ])
    expect(server.secrets.filter(Boolean).length).toBeGreaterThan(8)
    for (const secret of server.secrets.filter(Boolean)) expect(told).not.toContain(secret)
  })

  test('goes on after a restart at any point, without a refresh', async () => {
    const { server, start, name } = createWorld()
    await start().signIn()
    expect((await start().fetchApi()).authorization).toMatch(/^Bearer access-token-1-/)
    expect((await start().call('session')).session).toBeDefined()
    expect(server.tokenRequests()).toHaveLength(1)
    expect((await readDatabase(name))['session']).toHaveLength(1)
  })

  test('repeats a request that an early end of the token has spoiled (RF-15)', async () => {
    const { server, apis, start, open } = createWorld()
    const { signIn, fetchApi } = start()
    open('page-1', start, 'alice')
    await signIn()
    apis.answer = (authorization) =>
      authorization?.includes('access-token-1')
        ? new Response('', { status: 401 })
        : json({ authorization })
    expect((await fetchApi()).authorization).toMatch(/^Bearer access-token-2-/)
    expect(server.tokenRequests()).toHaveLength(2)
  })

  test('sends one token request for 100 calls in five tabs and two workers (RF-01)', async () => {
    const { browser, server, start } = createWorld()
    const workers = [start(), start()]
    await workers[0]!.signIn()
    browser.setClock(3_600_000)
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) => workers[index % 2]!.fetchApi()),
    )
    expect(new Set(answers.map(({ authorization }) => authorization)).size).toBe(1)
    expect(server.tokenRequests()).toHaveLength(2)
  })

  test('signs in silently where the refresh token is gone (issue: silent login)', async () => {
    const { browser, server, start, open } = createWorld()
    const world = start()
    open('page-1', () => world, 'alice')
    await world.signIn()
    browser.setClock(3_600_000)
    server.answers.push(() => json({ error: 'invalid_grant' }, 400))
    expect((await world.fetchApi()).authorization).toMatch(/^Bearer access-token-2-/)
    expect(server.tokenRequests()).toHaveLength(3)
  })

  test('ends the session where the server knows nobody, and the API answers itself (SE-12)', async () => {
    const { browser, server, start, open } = createWorld()
    const world = start()
    const page = open('page-1', () => world)
    await world.signIn()
    browser.setClock(3_600_000)
    server.answers.push(() => json({ error: 'invalid_grant' }, 400))
    const answers = await Promise.all(Array.from({ length: 5 }, () => world.fetchApi()))
    for (const answer of answers) expect(answer).toEqual({ authorization: null })
    const ends = page.events.filter(({ type }) => type === 'signed-out')
    const code = 'login_required'
    expect(ends).toEqual([{ type: 'signed-out', reason: 'ended', code }])
    expect(await world.call('session')).toEqual({ ended: 'ended', code })
  })

  test('never sends a token to an endpoint of the server, though a rule covers it (CF-02)', async () => {
    const { seen, server, start } = createWorld({ apis: ['https://login.example/'] })
    const { signIn, dispatch } = start()
    await signIn()
    const token = dispatch(requestTo(`${server.issuer}/token`))
    expect(token.handled).toBe(false)
    expect(dispatch(requestTo(`${server.issuer}/userinfo`)).handled).toBe(true)
    // A worker that has just been started learns it from the record.
    const fresh = start().dispatch(requestTo(`${server.issuer}/token`))
    await fresh.response
    const last = server.requests.at(-1)!
    expect(last.url).toBe(`${server.issuer}/token`)
    expect(new Headers(last.init.headers).has('authorization')).toBe(false)
    expect(seen).toEqual([])
  })
})

describe("a page's POST to the authorization server", () => {
  const post = (url: string, more: Partial<Request> = {}) =>
    requestTo(url, { method: 'POST', mode: 'cors', ...more })
  const endpoints = ['token', 'revoke', 'par', 'introspect', 'register', 'mtls/token']
  const metadata = {
    pushed_authorization_request_endpoint: 'https://login.example/par',
    introspection_endpoint: 'https://login.example/introspect',
    registration_endpoint: 'https://login.example/register',
    userinfo_endpoint: 'https://login.example/userinfo',
    mtls_endpoint_aliases: { token_endpoint: 'https://login.example/mtls/token' },
  }
  const withEndpoints = (options: Partial<TokenWorkerOptions> = {}) => {
    const world = createWorld(options)
    Object.assign(world.server.metadata, metadata)
    return world
  }

  const expectRefused = async (response: Promise<Response> | undefined) => {
    const answer = await response
    expect(answer?.status).toBe(403)
    // Marked as ours, not to be kept, and readable by a program (ER-05).
    expect(answer?.headers.get('x-tokenward')).toBe('1')
    expect(answer?.headers.get('cache-control')).toBe('no-store')
    expect(answer?.headers.get('content-type')).toBe('application/problem+json')
    expect(await answer?.json()).toMatchObject({ status: 403 })
  }

  test.each(endpoints)(
    'to /%s is refused, by a worker that has just started too (IN-07, ER-05)',
    async (path) => {
      const world = withEndpoints()
      await world.start().signIn()
      const { requests } = world.server
      const count = requests.length
      const url = `https://login.example/${path}`
      await expectRefused(world.start().dispatch(post(url)).response)
      await expectRefused(world.start().dispatch(post(url, { mode: 'no-cors' })).response)
      expect(requests).toHaveLength(count)
    },
  )

  test('is refused after a sign-out and a restart, without asking the server (IN-07)', async () => {
    const world = withEndpoints()
    const first = world.start()
    await first.signIn()
    await first.call('logout', { local: true })
    await settle()
    const { requests } = world.server
    const count = requests.length
    const again = world.start()
    await expectRefused(again.dispatch(post('https://login.example/token')).response)
    expect(requests).toHaveLength(count)
    // From now on it is known, and the rest is declined at once.
    expect(again.dispatch(post('https://login.example/other')).handled).toBe(false)
  })

  test.each(['userinfo', 'interaction/1/login', 'api/orders'])(
    'to /%s goes on as it was made (IN-07)',
    async (path) => {
      const world = withEndpoints()
      await world.start().signIn()
      const sent: unknown[][] = []
      const platform: Partial<Platform> = {
        fetch: async (...args) => {
          sent.push(args)
          return new Response('theirs')
        },
      }
      const request = post(`https://login.example/${path}`)
      const { response } = world.start(platform).dispatch(request)
      expect(await (await response)?.text()).toBe('theirs')
      // The very request: its body is not read, nor is anything said about it.
      expect(sent).toEqual([[request]])
      expect(sent[0]?.[0]).toBe(request)
    },
  )

  test('is refused whatever a script has put into the session record (IN-07, CF-01)', async () => {
    const world = withEndpoints()
    await world.start().signIn()
    const [issuer, clientId] = world.name.split(' ').slice(1) as [string, string]
    const store = createStore({ config: { issuer, clientId }, platform: world.browser.platform() })
    const protocolEndpoints = ['https://login.example/x', 5, null, { startsWith: 1 }] as string[]
    await store.update((current) => current && { ...current, protocolEndpoints })
    const { dispatch } = world.start()
    expect((await dispatch(requestTo('https://api.example/orders')).response)?.status).toBe(200)
    const count = world.server.requests.length
    await expectRefused(dispatch(post('https://login.example/token')).response)
    expect(world.server.requests).toHaveLength(count)
  })

  test('goes on where nothing is known of the server, and where the disk fails (IN-07)', async () => {
    const world = withEndpoints()
    const fetch: Platform['fetch'] = async () => new Response('theirs')
    const passed = async () =>
      (await world.start({ fetch }).dispatch(post('https://login.example/token')).response)?.text()
    expect(await passed()).toBe('theirs')
    const open = vi.spyOn(indexedDB, 'open').mockImplementation(() => {
      throw new Error('no database')
    })
    expect(await passed()).toBe('theirs')
    open.mockRestore()
  })

  test('that meets no network fails like one (IN-07)', async () => {
    const world = withEndpoints()
    const fetch: Platform['fetch'] = async () => {
      throw new TypeError('Failed to fetch')
    }
    const { response } = world.start({ fetch }).dispatch(post('https://login.example/x'))
    expect((await response)?.type).toBe('error')
  })

  test('is known at once where the metadata is given, on one origin too (IN-07)', async () => {
    const issuer = 'https://app.example'
    const given = {
      issuer,
      authorization_endpoint: `${issuer}/oauth/authorize`,
      token_endpoint: `${issuer}/oauth/token`,
    }
    const { start } = createWorld({ issuer: given, apis: ['/'] })
    const { dispatch } = start()
    await expectRefused(dispatch(post(`${issuer}/oauth/token`)).response)
    expect(dispatch(post(`${issuer}/oauth/tokens`)).handled).toBe(true)
    const elsewhere = createWorld({ issuer: given, apis: ['/api/'] }).start()
    expect(elsewhere.dispatch(post(`${issuer}/oauth/tokens`)).handled).toBe(false)
    const discovered = createWorld({ issuer: `${issuer}/id`, apis: ['/api/'] }).start()
    expect(discovered.dispatch(post(`${issuer}/id/token`)).handled).toBe(false)
  })
})

test('a step-up that no page can be told of leaves nothing unhandled, in fetch() too (ER-03)', async () => {
  const { start, browser, apis } = createWorld()
  await start().signIn()
  const headers = { 'www-authenticate': 'Bearer error="insufficient_scope", scope="more"' }
  apis.answer = () => new Response('{}', { status: 403, headers })
  const list = async () => {
    throw new Error('no clients')
  }
  const unhandled = vi.fn()
  process.on('unhandledRejection', unhandled)
  try {
    const { worker } = start({ pages: { ...browser.platform().pages, list } })
    expect((await worker.fetch(new Request(api))).status).toBe(403)
    await settle()
    expect(unhandled).not.toHaveBeenCalled()
  } finally {
    process.off('unhandledRejection', unhandled)
  }
})

describe('the calls of a page', () => {
  test('hello names the probe, and how this page was landed on, once (BR-03)', async () => {
    const { call, navigate } = createWorld().start()
    const hello = {
      probeUrl: `${app}tokenward/done.html`,
      channel: expect.stringMatching(/^tokenward https:\/\/login\.example client-\d+$/),
      landing: undefined,
      // In the development build.
      apis: [app.slice(0, -1), 'https://api.example'],
    }
    expect(await call('hello')).toEqual(hello)
    await navigate(`${app}tokenward/callback.html?code=x&state=y`, {}, 'page-2')
    expect(await call('hello')).toEqual(hello)
    const landed = await call('hello', undefined, 'page-2')
    expect(landed.landing).toMatchObject({ code: 'unsolicited_callback' })
    expect(await call('hello', undefined, 'page-2')).toEqual(hello)
  })

  test('claim takes control of the pages (BR-10)', async () => {
    const { browser, start } = createWorld()
    await start().call('claim')
    expect(browser.claims).toBe(1)
  })

  test('renew renews, or says why not', async () => {
    const { server, browser, start } = createWorld()
    const { call, signIn } = start()
    await expect(call('renew')).rejects.toMatchObject({ code: 'signed_out' })
    await signIn()
    await call('renew')
    expect(server.tokenRequests()).toHaveLength(2)
    browser.online = false
    server.answers.push(() => Promise.reject(new TypeError('Failed to fetch')))
    await expect(call('renew')).rejects.toMatchObject({ code: 'offline' })
  })

  test('checkSession finds the user that the server knows', async () => {
    const { start, open, server } = createWorld()
    const world = start()
    open('page-1', () => world, 'alice')
    const both = [world.call('checkSession'), world.call('checkSession')]
    for (const report of await Promise.all(both)) {
      expect(report).toMatchObject({ session: { claims: { sub: 'alice' } } })
    }
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('checkSession never ends a session', async () => {
    const { start, open } = createWorld()
    const world = start()
    open('page-1', () => world)
    expect(await world.call('checkSession')).toEqual({})
    await world.signIn()
    expect(await world.call('checkSession')).toEqual({})
    expect(await world.call('session')).toMatchObject({ session: { state: 'fresh' } })
  })

  test('checkSession says why it could not be done', async () => {
    const { start, browser } = createWorld()
    const { call } = start()
    await expect(call('checkSession')).rejects.toMatchObject({ code: 'no_page' })
    browser.online = false
    await expect(call('checkSession')).rejects.toMatchObject({ code: 'offline' })
  })

  test('logout goes to the server and back, and knows the outcome', async () => {
    const { start, server } = createWorld()
    const { call, signIn, navigate } = start()
    await signIn()
    const { url } = await call('logout', { returnTo: `${app}bye` })
    const away = new URL(await navigate(url!))
    expect(away.href.startsWith(`${server.issuer}/logout`)).toBe(true)
    expect(await call('logoutOutcome', { url: url! })).toEqual({ server: 'unknown' })
    const state = away.searchParams.get('state')
    expect(await navigate(`${app}tokenward/logout.html?state=${state}`)).toBe(`${app}bye#`)
    expect(await call('logoutOutcome', { url: url! })).toEqual({ server: 'ended' })
  })
})

describe('an auth page', () => {
  test.each(['login', 'silent', 'logout', 'done'])(
    '%s that is posted to leads to the app, and does nothing (CB-04)',
    async (page) => {
      const { start, server } = createWorld()
      const location = await start().navigate(`${app}tokenward/${page}.html`, { method: 'POST' })
      expect(location).toBe(`${app}#`)
      expect(server.requests).toEqual([])
    },
  )

  test('that a script asks for is refused, and nothing is exchanged (CB-05)', async () => {
    const { start, server } = createWorld()
    const { dispatch, call, navigate } = start()
    const { url } = await call('login', { returnTo: app })
    const back = server.authorize(await navigate(url))
    server.requests.length = 0
    for (const more of [{}, { mode: 'no-cors', destination: 'image' }] as const) {
      const response = await dispatch(requestTo(back.href, more)).response
      expect(response?.status).toBe(403)
      expect(response?.headers.get('cache-control')).toBe('no-store')
    }
    expect(server.requests).toEqual([])
    expect(await navigate(back.href)).toBe(`${app}#`)
  })

  test('done.html tells a page that asks for it that the worker is there', async () => {
    const { dispatch } = createWorld().start()
    const response = await dispatch(requestTo(`${app}tokenward/done.html`)).response
    expect(response?.status).toBe(204)
    expect(response?.headers.has('x-tokenward')).toBe(true)
  })

  test('never reaches the network, whatever fails inside (CB-11)', async () => {
    const { start } = createWorld()
    const original = indexedDB.open
    indexedDB.open = () => {
      throw new DOMException('blocked', 'SecurityError')
    }
    try {
      const { navigate } = start()
      for (const page of ['login', 'silent', 'callback', 'logout']) {
        const url = `${app}tokenward/${page}.html?ticket=x&state=y&code=z`
        expect(await navigate(url)).toBe(`${app}#`)
      }
    } finally {
      indexedDB.open = original
    }
  })

  test('ends in the app in 6 s where a page keeps the database busy, and requests fail (ST-07)', async () => {
    const { start, browser, name } = createWorld()
    await start().signIn()
    const { release } = await holdDatabase(name)
    const settled: string[] = []
    const note = (name: string) => (result: unknown) => void settled.push(`${name} ${result}`)
    for (const page of ['login', 'silent', 'callback', 'logout']) {
      const url = `${app}tokenward/${page}.html?ticket=x&state=y&code=z`
      start().navigate(url).then(note(page))
    }
    const { response } = start().dispatch(requestTo(api))
    response?.then(({ type }) => note('api')(type))
    const next = start()
    next.call('session').catch(({ code }) => note('session')(code))
    await browser.pass(6_000)
    await vi.waitFor(() => expect(settled).toHaveLength(6))
    expect(new Set(settled)).toEqual(
      new Set([
        ...[`login ${app}#`, `silent ${app}#`, `callback ${app}#`, `logout ${app}#`],
        ...['api error', 'session storage_failed'],
      ]),
    )
    await release()
    await browser.pass(3_000)
    expect(await next.fetchApi()).toEqual({ authorization: expect.stringMatching(/^Bearer /) })
  })

  test('ends in the app after a minute, whatever it waits for (CB-11)', async () => {
    const dpop = () => ({ keyFor: () => new Promise(() => {}) })
    const { start, browser } = createWorld({ dpop: dpop as never })
    const { navigate } = start()
    const landed = navigate(`${app}tokenward/login.html?ticket=x`)
    await browser.pass(60_000)
    expect(await landed).toBe(`${app}#`)
  })

  test('never reaches the network, whichever step of an arrival throws (CB-11)', async () => {
    /** Lets the nth step of everything that is not ours throw. */
    const trip = { left: Infinity, tripped: false }
    const fragile =
      <Args extends unknown[], Result>(step: (...args: Args) => Result) =>
      (...args: Args): Result => {
        if (--trip.left === 0) {
          trip.tripped = true
          throw new Error('injected')
        }
        return step(...args)
      }
    const patched = (
      [
        [IDBDatabase.prototype, 'transaction'],
        [IDBObjectStore.prototype, 'get'],
        [IDBObjectStore.prototype, 'put'],
        [crypto.subtle, 'digest'],
      ] as unknown as [Record<string, (...args: unknown[]) => unknown>, string][]
    ).map(([owner, name]) => {
      const original = owner[name]!
      const own = Object.getOwnPropertyDescriptor(owner, name)
      owner[name] = function (...args) {
        return fragile(() => original.apply(this, args))()
      }
      return () => (own ? Object.defineProperty(owner, name, own) : delete owner[name])
    })
    try {
      let steps = 0
      do {
        trip.left = Infinity
        trip.tripped = false
        const world = createWorld()
        const { browser, server } = world
        const { call, navigate } = world.start()
        const { url } = await call('login', { returnTo: `${app}here` })
        const back = server.authorize(await navigate(url))
        const whole = browser.platform(server.fetch)
        const broken = Object.fromEntries(
          Object.entries({ ...whole, channel: undefined })
            .filter(([, value]) => typeof value === 'function')
            .map(([name, value]) => [name, fragile(value as () => unknown)]),
        )
        const again = world.start(broken as Partial<Platform>)
        trip.left = ++steps
        const { handled, response } = again.dispatch(
          requestTo(back.href, { mode: 'navigate', destination: 'document' }),
        )
        expect(handled, `step ${steps}`).toBe(true)
        const answer = await response
        expect(answer?.status).toBe(303)
        expect([`${app}here#`, `${app}#`]).toContain(answer?.headers.get('location'))
        expect(server.tokenRequests().length).toBeLessThanOrEqual(1)
      } while (trip.tripped)
      expect(steps).toBeGreaterThan(20)
    } finally {
      for (const restore of patched) restore()
    }
  })

  test('is answered with headers that keep it to itself, in every case (CB-16)', async () => {
    const { start, server } = createWorld()
    const { dispatch, call, navigate } = start()
    const { url } = await call('login', { returnTo: app })
    const signedIn = server.authorize(await navigate(url))
    const marker = encodeURIComponent('<script>alert("reflected")</script>')
    const names = ['login', 'silent', 'callback', 'done', 'logout']
    const urls = [
      signedIn.href,
      // The same again, and answers that fail.
      signedIn.href,
      ...names.flatMap((name) =>
        ['', `&ticket=${marker}&state=${marker}&code=${marker}`, `&error=${marker}`].map(
          (query) => `${app}tokenward/${name}.html?error_description=${marker}${query}#${marker}`,
        ),
      ),
    ]
    const kinds: Partial<Request>[] = [
      { mode: 'navigate', destination: 'document' },
      { mode: 'navigate', destination: 'iframe' },
      { mode: 'navigate', destination: 'document', method: 'POST' },
      { mode: 'cors' },
      { mode: 'no-cors', destination: 'image' },
    ]
    const expectGuarded = async (response: Response | undefined, what: string) => {
      expect(response?.status, what).toBeGreaterThan(0)
      expect(response?.headers.get('cache-control'), what).toBe('no-store')
      expect(response?.headers.get('referrer-policy'), what).toBe('no-referrer')
      expect(response?.headers.get('location') ?? '', what).not.toContain('reflected')
      const fixed = ['', '<!doctype html><title>tokenward</title>', await refusal().text()]
      expect(fixed, what).toContain(await response?.text())
    }
    for (const kind of kinds) {
      for (const url of urls) {
        await expectGuarded(await dispatch(requestTo(url, kind)).response, url)
      }
    }
    // Also where the worker can do nothing.
    errors.mockImplementation(() => {})
    const wrong = createWorld({ leeway: -1 }).start()
    const { response } = wrong.dispatch(requestTo(signedIn.href, { mode: 'navigate' }))
    await expectGuarded(await response, 'wrong options')
    errors.mockReset()
  })

  test('is answered though the database is full of nonsense (CB-12, ST-08)', {
    timeout: 60_000,
  }, async () => {
    const { start, name, browser } = createWorld()
    await start().signIn()
    const anything = fc.anything({
      ...{ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true },
      ...{ maxDepth: 2, withTypedArray: true },
    })
    const spoilt = (valid: object) =>
      fc
        .dictionary(fc.constantFrom(...Object.keys(valid)), anything, { maxKeys: 2 })
        .map((bad) => ({ ...valid, ...bad }))
    const record = fc.oneof(
      anything,
      spoilt({
        ...activeRecord(browser.now(), { refreshToken: 'x', accessToken: undefined }),
        ...{ refreshSentAt: 1, subject: 'x', idToken: 'x' },
        retry: { failures: 1, notBefore: 1 },
        silentLoginFailed: { times: 1, at: 1 },
      }),
    )
    const metadata = fc.oneof(anything, spoilt({ metadata: {}, fetchedAt: browser.now() }))
    await fc.assert(
      fc.asyncProperty(record, anything, metadata, async (...values) => {
        const db = await new Promise<IDBDatabase>((resolve) => {
          const request = indexedDB.open(name)
          request.onsuccess = () => resolve(request.result)
        })
        const tx = db.transaction(['session', 'transactions', 'server'], 'readwrite')
        const places = [
          ['session', 'current'],
          ['transactions', 'x'],
          ['server', 'metadata'],
        ] as const
        for (const [index, [storeName, key]] of places.entries()) {
          tx.objectStore(storeName).put(values[index], key)
        }
        await new Promise((resolve) => {
          tx.oncomplete = resolve
        })
        db.close()
        const { call, fetchApi, signIn, navigate } = start()
        await call('hello')
        await call('session')
        await fetchApi().catch(() => {})
        expect(await navigate(`${app}tokenward/login.html?ticket=x`)).toBe(`${app}#`)
        expect(await signIn()).toBe(`${app}here#`)
        expect((await fetchApi()).authorization).toMatch(/^Bearer access-token/)
        expect((await call('session')).session).toMatchObject({ claims: { sub: 'alice' } })
      }),
      { numRuns: 60 },
    )
  })
})

describe('what was configured', () => {
  test('is not widened by messages, nor by what lies in the database (CF-01)', async () => {
    const { start, seen, name } = createWorld()
    const first = start()
    await first.signIn()
    const evil = 'https://evil.example/'
    for (const method of ['configure', 'apis', 'options', 'hello', 'login']) {
      const { port1, port2 } = new MessageChannel()
      const value = { apis: [evil], issuer: evil, clientId: 'evil', redirectUri: evil }
      const argumentList = [{ type: 'RAW', value }]
      port1.postMessage({ id: '1', type: 'APPLY', path: [method], argumentList })
      first.worker.handle({
        data: { tokenward: PROTOCOL, apis: [evil] },
        origin: 'https://app.example',
        source: { id: 'page-1', type: 'window' },
        ports: [port2],
        waitUntil: () => {},
      } as never)
      port1.close()
    }
    const db = await new Promise<IDBDatabase>((resolve) => {
      const request = indexedDB.open(name)
      request.onsuccess = () => resolve(request.result)
    })
    const store = db.transaction('session', 'readwrite').objectStore('session')
    await new Promise((resolve) => {
      const reading = store.get('current')
      reading.onsuccess = () => {
        const more = { apis: [{ origin: new URL(evil).origin, segments: [] }], issuer: evil }
        store.put({ ...reading.result, ...more }, 'current').onsuccess = resolve
      }
    })
    db.close()
    for (const { dispatch, worker, fetchApi } of [first, start()]) {
      expect(dispatch(requestTo(evil)).handled).toBe(false)
      await worker.fetch(new Request(evil))
      expect(seen.at(-1)).toEqual({ url: evil, authorization: null })
      expect((await fetchApi()).authorization).toMatch(/^Bearer access-token/)
    }
  })
})

describe('a request that the page has named, to cancel it', () => {
  test('reaches the network with a signal of its own, signed in or out, once (IN-14)', async () => {
    const world = createWorld()
    const { browser, server } = world
    const signals: (AbortSignal | null | undefined)[] = []
    const network: Fetch = async (input, init) => {
      const url = String(input instanceof Request ? input.url : input)
      if (url.startsWith(server.issuer)) return await server.fetch(input, init)
      signals.push(init?.signal)
      return new Response('ok')
    }
    const worker = world.start(browser.platform(network))
    const named = requestTo(`${api}${CANCEL_MARK}one`, { referrerPolicy: 'origin' })
    const cancel = () =>
      worker.worker.handle({ data: { tokenward: PROTOCOL, cancel: 'one' }, ports: [] } as never)
    await worker.dispatch(named).response
    await worker.signIn()
    await worker.dispatch(named).response
    await worker.worker.fetch(named)
    expect(signals.map((signal) => signal?.aborted)).toEqual([false, false, false])
    // They are over: this is for the next of that name. Other token workers hear it too.
    expect(cancel()).toBe(false)
    await worker.dispatch(named).response
    await worker.dispatch(requestTo(api)).response
    expect(signals.map((signal) => signal?.aborted)).toEqual([false, false, false, true, undefined])
  })

  test('is no reason to take other messages: they are for others', () => {
    const { worker } = createWorld().start()
    const messages = [null, 'text', { cancel: 'one' }, { tokenward: PROTOCOL, cancel: 1 }]
    for (const data of messages) {
      expect(worker.handle({ data, ports: [] } as never), JSON.stringify(data)).toBe(false)
    }
  })
})

describe('fetch()', () => {
  test('sends a request of an API with the token, and any other as it is (IN-18)', async () => {
    const { start, seen } = createWorld()
    const { worker, signIn } = start()
    await signIn()
    await worker.fetch(new Request(api))
    await worker.fetch(new Request('https://other.example/'))
    await worker.fetch(new Request(api, { headers: { authorization: 'Basic x' } }))
    expect(seen.map(({ authorization }) => authorization)).toEqual([
      expect.stringMatching(/^Bearer access-token-1-/),
      null,
      'Basic x',
    ])
  })

  test('renews like any other request', async () => {
    const { browser, start, seen } = createWorld()
    const { worker, signIn } = start()
    await signIn()
    browser.setClock(3_600_000)
    await worker.fetch(new Request(api))
    expect(seen[0]?.authorization).toMatch(/^Bearer access-token-2-/)
  })
})

describe('a part of an API', () => {
  const createPart = (name: string, more: Partial<ApiPart> = {}) => {
    const heard: string[] = []
    const resumed = vi.fn()
    let door: ConnectedWorker | undefined
    const part: ApiPart = {
      connect: (given) => {
        door = given
      },
      answer: ({ method }) =>
        method === name ? Promise.resolve(new Response(`part ${name}`)) : undefined,
      forget: async () => {
        const { user, lastEnd } = await (door as ConnectedWorker).present()
        heard.push(lastEnd && user ? 'another user' : 'nobody')
      },
      resume: async () => resumed(),
      ...more,
    }
    return { part, heard, resumed, door: () => door as ConnectedWorker }
  }

  const createPartWorld = (queue: ApiPart, plugin?: ApiPart) => {
    const strategy = {
      cacheName: 'x',
      plugins: [{}, { partOf: () => plugin }],
      handle: async () => new Response(),
    }
    return createWorld({
      apis: [{ url: 'https://api.example/', queue, ...(plugin && { strategy }) }, '/api/'],
    })
  }

  test('answers before the API is asked, and each leaves what is not its own', async () => {
    const first = createPart('PUT')
    const second = createPart('GET')
    const { start, seen } = createPartWorld(first.part, second.part)
    const { dispatch, signIn } = start()
    await signIn()
    const text = async (request: Request) => await (await dispatch(request).response)?.text()
    expect(await text(new Request(api))).toBe('part GET')
    expect(await text(new Request(api, { method: 'PUT' }))).toBe('part PUT')
    expect(seen).toEqual([])
    expect(await text(new Request(api, { method: 'POST' }))).toMatch('Bearer access-token-1')
    expect(await text(new Request(`${app}api/x`))).toMatch('Bearer access-token-1')
  })

  test('is asked for nothing that is not for its API', async () => {
    const asked = vi.fn(() => undefined)
    const { part } = createPart('x', { answer: asked })
    const { dispatch } = createPartWorld(part).start()
    const post = (url: string, more = {}) =>
      dispatch(new Request(url, { method: 'POST', ...more })).handled
    expect(post('https://other.example/')).toBe(false)
    expect(post(api, { headers: { authorization: 'Basic x' } })).toBe(false)
    expect(post(`${app}api/x`)).toBe(true)
    expect(asked).not.toHaveBeenCalled()
  })

  test('that fails is a network error to the page', async () => {
    const { part } = createPart('GET', { answer: () => Promise.reject(new Error('no-response')) })
    const { dispatch } = createPartWorld(part).start()
    expect((await dispatch(requestTo(api)).response)?.type).toBe('error')
  })

  test('forgets a user before any page hears of the end (SE-01, SE-08)', async () => {
    let told: string[] = []
    const { part, heard, door } = createPart('x', {
      forget: async () => {
        const { user } = await door().present()
        heard.push(`${user === undefined ? 'nobody' : 'somebody'} ${told.includes('signed-out')}`)
      },
    })
    const { start, browser } = createPartWorld(part)
    const page = fakePage({ id: 'page-1' })
    browser.pages.push(page)
    const { call, signIn } = start()
    const eventsAt = () => page.events.map(({ type }) => type)
    told = new Proxy([], { get: () => (type: string) => eventsAt().includes(type as never) })
    await signIn()
    heard.length = 0
    await signIn('bob')
    expect(heard).toEqual(['somebody false'])
    page.events.length = 0
    await call('logout', { local: true })
    expect(heard).toEqual(['somebody false', 'nobody false'])
    expect(eventsAt()).toContain('signed-out')
  })

  test('of one worker forgets a user who signs out, or is replaced, in another (SE-01, SE-08)', async () => {
    const { part, heard } = createPart('x')
    const world = createPartWorld(part)
    const here = world.start()
    await here.signIn()
    await here.fetchApi()
    // Both have the same part: the one that ends the session asks it, and the other that hears it.
    heard.length = 0
    const there = world.start()
    await there.signIn('bob')
    await settle()
    expect(new Set(heard)).toEqual(new Set(['another user']))
    expect(heard.length).toBeGreaterThan(1)
    heard.length = 0
    await here.fetchApi()
    await there.call('logout', { local: true })
    await settle()
    expect(heard).toHaveLength(2)
    expect(heard).toContain('nobody')
  })

  test('that takes too long, or fails, does not keep anybody signed in (SE-01)', async () => {
    const { part } = createPart('x', { forget: () => new Promise(() => {}) })
    const { start, browser } = createPartWorld(part)
    const page = fakePage({ id: 'page-1' })
    browser.pages.push(page)
    const { call, signIn } = start()
    await signIn()
    const leaving = call('logout', { local: true })
    await settle()
    await browser.pass(3_000)
    await leaving
    expect(page.events.map(({ type }) => type)).toContain('signed-out')
  })

  test('forgets what a worker had no time for that was stopped at a sign-out', async () => {
    const { part, heard } = createPart('x', { forget: () => new Promise(() => {}) })
    const world = createPartWorld(part)
    const first = world.start()
    await first.signIn()
    void first.call('logout', { local: true })
    await settle()
    part.forget = async () => void heard.push('asked')
    await world.start().call('session')
    await vi.waitFor(() => expect(heard).toEqual(['asked']))
  })

  test('tries what it has put off when a page opens, and with a new token (OF-05)', async () => {
    const { part, resumed } = createPart('x')
    const { start, browser, seen } = createPartWorld(part)
    const { call, signIn } = start()
    await signIn()
    expect(resumed).toHaveBeenCalledTimes(1)
    await call('hello')
    expect(resumed).toHaveBeenCalledTimes(2)
    browser.setClock(3_600_000)
    resumed.mockClear()
    await call('online')
    await browser.pass(3_000)
    await vi.waitFor(() => expect(resumed).toHaveBeenCalled())
    expect(seen).toEqual([])
    resumed.mockClear()
    await call('renew')
    expect(resumed).toHaveBeenCalledTimes(1)
  })

  test('knows the user by a hash, in every sign-in the same, and nobody by nothing', async () => {
    const { part, door } = createPart('x')
    const { start } = createPartWorld(part)
    const { call, signIn } = start()
    expect((await door().present()).user).toBeUndefined()
    await signIn()
    const user = (await door().present()).user
    expect(user).toMatch(/^.{20,}$/)
    expect(user).not.toContain('alice')
    await signIn('bob')
    expect((await door().present()).user).not.toBe(user)
    await call('logout', { local: true })
    await signIn()
    expect((await door().present()).user).toBe(user)
  })

  test('begins requests to its APIs and to nothing else, and only as the user it names', async () => {
    const { part, door } = createPart('x')
    const { start, seen } = createPartWorld(part)
    await start().signIn()
    const event = { waitUntil: () => {} }
    expect(door().begin(new Request('https://other.example/'), event)).toBeUndefined()
    const owner = (await door().present()).user
    expect((await door().begin(new Request(api), event)?.send(owner))?.response.status).toBe(200)
    expect(
      (await door().begin(new Request(api), event)?.send('somebody else'))?.response.type,
    ).toBe('error')
    expect(seen).toHaveLength(1)
  })
})

describe('a token worker with wrong options', () => {
  const wrong = [{ clientSecret: 'x' }, { apis: ['*'] }, { issuer: 'http://login.example' }]

  test.each(wrong)(
    '%j does not throw: a worker that cannot start is an open door (CF-03)',
    (more) => {
      errors.mockImplementation(() => {})
      expect(() => createWorld(more as never).start()).not.toThrow()
      expect(errors).toHaveBeenCalledTimes(1)
      expect(errors.mock.calls[0]?.[0]).toMatchObject({ code: 'invalid_configuration' })
      errors.mockReset()
    },
  )

  test.each([undefined, null, 5, 'x'])('%j does not throw either', (options) => {
    errors.mockImplementation(() => {})
    const { browser } = createUnitWorld()
    expect(() => createTokenWorker(options as never, browser.platform())).not.toThrow()
    errors.mockReset()
  })

  test('gives no request a token, and declines it (CF-03)', async () => {
    errors.mockImplementation(() => {})
    const { start, seen } = createWorld({ leeway: -1 })
    const { dispatch, worker } = start()
    expect(dispatch(requestTo(api)).handled).toBe(false)
    await worker.fetch(new Request(api))
    expect(seen).toEqual([{ url: api, authorization: null }])
    errors.mockReset()
  })

  test('keeps what arrives at the auth pages from the network, and goes back (CF-03)', async () => {
    errors.mockImplementation(() => {})
    const { start, seen } = createWorld({ leeway: -1 })
    const { dispatch } = start()
    const callback = `${app}tokenward/callback.html?code=c&state=s`
    const { handled, response } = dispatch(requestTo(callback, { mode: 'navigate' }))
    expect(handled).toBe(true)
    expect((await response)?.status).toBe(303)
    expect((await response)?.headers.get('location')).toBe(`${app}#`)
    expect(dispatch(requestTo(`${app}orders`, { mode: 'navigate' })).handled).toBe(false)
    expect(seen).toEqual([])
    errors.mockReset()
  })

  test('says why to every call of a page', async () => {
    errors.mockImplementation(() => {})
    const { call } = createWorld({ leeway: -1 }).start()
    const calls = [
      call('hello'),
      call('session'),
      call('login', { returnTo: app }),
      call('renew'),
      call('logout', {}),
      call('checkSession'),
    ]
    for (const each of calls) {
      await expect(each).rejects.toMatchObject({
        code: 'invalid_configuration',
        message: expect.stringContaining('leeway'),
      })
    }
    errors.mockReset()
  })
})

describe('listen()', () => {
  const listen = (options: Partial<TokenWorkerOptions>, claim?: boolean) => {
    const scope = new EventTarget()
    vi.stubGlobal('self', scope)
    const world = createWorld(options)
    const { worker } = world.start()
    worker.listen(claim === undefined ? undefined : { claim })
    const dispatch = (type: string, more: object = {}) => {
      const waiting: Promise<unknown>[] = []
      const event = Object.assign(new Event(type, { cancelable: true }), {
        waitUntil: (work: Promise<unknown>) => void waiting.push(work),
        respondWith: vi.fn(),
        ...more,
      })
      const later = vi.fn()
      scope.addEventListener(type, later, { once: true })
      scope.dispatchEvent(event)
      scope.removeEventListener(type, later)
      return { event, waiting, reachedOthers: later.mock.calls.length === 1 }
    }
    return { ...world, dispatch }
  }
  afterEach(() => {
    vi.unstubAllGlobals()
  })

  test('keeps what is ours from later listeners, and nothing else', () => {
    const { dispatch } = listen({})
    const ours = dispatch('fetch', { request: requestTo(api), clientId: '' })
    expect(ours.event.respondWith).toHaveBeenCalledTimes(1)
    expect(ours.reachedOthers).toBe(false)
    const other = dispatch('fetch', { request: requestTo('https://other.example/'), clientId: '' })
    expect(other.event.respondWith).not.toHaveBeenCalled()
    expect(other.reachedOthers).toBe(true)
    expect(dispatch('message', { data: 'x', ports: [], source: null }).reachedOthers).toBe(true)
  })

  test('claims pages only where it was asked to', async () => {
    const quiet = listen({})
    await Promise.all(quiet.dispatch('activate').waiting)
    expect(quiet.browser.claims).toBe(0)
    const claiming = listen({}, true)
    await Promise.all(claiming.dispatch('activate').waiting)
    expect(claiming.browser.claims).toBe(1)
  })

  test('asks the browser for every visit of an auth page, whatever its query', async () => {
    const addRoutes = vi.fn()
    const { dispatch } = listen({ redirectUri: `${app}back` })
    const { waiting, reachedOthers } = dispatch('install', { addRoutes })
    await Promise.all(waiting)
    // The worker's other listeners have an installation of their own.
    expect(reachedOthers).toBe(true)
    const pages = ['tokenward/login.html', 'tokenward/silent.html', 'back', 'tokenward/done.html']
    expect(addRoutes.mock.calls).toEqual([
      [
        {
          condition: {
            or: [...pages, 'tokenward/logout.html'].map((page) => ({
              urlPattern: { baseURL: app + page, search: '*' },
            })),
          },
          source: 'fetch-event',
        },
      ],
    ])
  })

  test.each([
    ['does not know routes', {}],
    ['refuses them', { addRoutes: () => Promise.reject(new TypeError('no')) }],
    [
      'throws at them',
      {
        addRoutes: () => {
          throw new TypeError('no')
        },
      },
    ],
  ])('is installed in a browser that %s', async (_title, more) => {
    await Promise.all(listen({}).dispatch('install', more).waiting)
  })

  test('hands the auth pages to nobody else where they cannot be routed', async () => {
    vi.stubGlobal('self', new EventTarget())
    const staticRoutes = vi.fn()
    const { worker } = createWorld().start()
    worker.listen({ staticRoutes })
    const waiting: Promise<unknown>[] = []
    const event = Object.assign(new Event('install'), {
      waitUntil: (work: Promise<unknown>) => void waiting.push(work),
      addRoutes: () => Promise.reject(new TypeError('no')),
    })
    self.dispatchEvent(event)
    await Promise.all(waiting)
    expect(waiting).toHaveLength(1)
    expect(staticRoutes).not.toHaveBeenCalled()
  })

  test('lets the installation of a wrong worker fail, after telling the pages why (CF-03)', async () => {
    errors.mockImplementation(() => {})
    const { browser, dispatch } = listen({ leeway: -1 })
    const page = fakePage()
    browser.pages.push(page)
    const [waiting] = dispatch('install').waiting
    await expect(waiting).rejects.toMatchObject({ code: 'invalid_configuration' })
    expect(page.events).toMatchObject([
      { type: 'problem', error: { code: 'invalid_configuration' } },
    ])
    errors.mockReset()
  })
})
