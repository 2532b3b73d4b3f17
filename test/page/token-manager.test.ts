// @vitest-environment jsdom
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { SessionEvent } from '../../src/session-event.js'
import { TokenError } from '../../src/shared/errors.js'
import {
  PROTOCOL,
  type Session,
  type WireEvent,
  type WorkerCalls,
} from '../../src/shared/protocol.js'
import { createTokenManager, type TokenManager } from '../../src/token-manager.js'
import { createPageBridge } from '../../sw/page-bridge.js'
import { createFakeBrowser } from '../support/fake-platform.js'

// jsdom has no service workers; the container here is a model of one with an active worker, whose
// end of the bridge is the real one. On a server: server-side.test.ts.

const scope = 'http://localhost:3000/'

const session = (more: Partial<Session> = {}): Session => ({
  claims: { sub: 'alice' },
  scope: 'openid',
  state: 'fresh',
  since: 1,
  ...more,
})

interface BrowserOptions {
  calls?: Partial<WorkerCalls>
  /** Does the active worker control the page? */
  controlled?: boolean
  registration?: 'none' | 'active'
  scope?: string
  /** What a fetch of the probe gets. */
  probe?: () => Response
  /** An old worker that knows nothing of us. */
  foreign?: boolean
  /** Version of the protocol that pages speak. */
  protocol?: number
  register?: () => Promise<unknown>
}

/** Puts a `navigator.serviceWorker` in place. */
const installServiceWorker = ({
  calls = {},
  controlled = true,
  registration: kind = 'active',
  probe = () => new Response(null, { status: 204, headers: { 'x-tokenward': '1' } }),
  foreign = false,
  protocol = PROTOCOL,
  ...more
}: BrowserOptions = {}) => {
  const asked: [string, unknown][] = []
  const container = new EventTarget() as EventTarget & Record<string, unknown>
  const bridge = createPageBridge({ platform: createFakeBrowser({ scope }).platform() })
  const methods = (pageId: string): WorkerCalls => {
    const all: WorkerCalls = {
      hello: async () => ({
        probeUrl: `${scope}tokenward/done.html`,
        channel: 'changes',
      }),
      claim: async () => {
        container['controller'] = worker
        container.dispatchEvent(new Event('controllerchange'))
      },
      session: async () => ({}),
      // All that jsdom can navigate to.
      login: async () => ({ url: `${location.href.split('#')[0]}#left` }),
      checkSession: async () => ({}),
      renew: async () => {},
      online: async () => {},
      logout: async () => ({ atServer: false }),
      logoutOutcome: async () => ({ server: 'ended' }),
      ...calls,
    }
    expect(pageId).toBe('page-1')
    return Object.fromEntries(
      Object.entries(all).map(([name, method]) => [
        name,
        (input: never) => {
          asked.push([name, input])
          return method(input)
        },
      ]),
    ) as unknown as WorkerCalls
  }
  const worker = Object.assign(new EventTarget(), {
    state: 'activated',
    scriptURL: `${scope}sw.js`,
    postMessage: (_envelope: unknown, ports: MessagePort[]) => {
      if (foreign) return
      const data = { tokenward: protocol }
      const source = { id: 'page-1', type: 'window' }
      const origin = new URL(scope).origin
      bridge.answer({ data, ports, origin, source, waitUntil: () => {} } as never, methods)
    },
  })
  const registration = Object.assign(new EventTarget(), {
    scope: more.scope ?? scope,
    active: worker,
    waiting: null,
    installing: null,
  })
  Object.assign(container, {
    controller: controlled ? worker : null,
    ready: kind === 'active' ? Promise.resolve(registration) : new Promise(() => {}),
    getRegistration: async () => (kind === 'active' ? registration : undefined),
    register: more.register ?? vi.fn(async () => registration),
    startMessages: vi.fn(),
  })
  Object.defineProperty(navigator, 'serviceWorker', { configurable: true, value: container })
  vi.stubGlobal(
    'fetch',
    vi.fn(async () => probe()),
  )
  const tell = (event: WireEvent, source: unknown = worker) =>
    container.dispatchEvent(
      Object.assign(new Event('message'), {
        data: { tokenward: PROTOCOL, event },
        source,
        ports: [],
      }),
    )
  return { asked, container, worker, registration, tell }
}

const managers: TokenManager[] = []
const create = (...args: Parameters<typeof createTokenManager>) => {
  const auth = createTokenManager(...args)
  managers.push(auth)
  return auth
}

const rejections: unknown[] = []
const onRejection = (reason: unknown) => void rejections.push(reason)
beforeAll(() => {
  process.on('unhandledRejection', onRejection)
})
afterEach(() => {
  for (const auth of managers.splice(0)) auth.close()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
  Reflect.deleteProperty(navigator, 'serviceWorker')
  history.replaceState(null, '', '/')
})
afterAll(() => {
  process.off('unhandledRejection', onRejection)
  expect(rejections).toEqual([])
})

describe('ready', () => {
  test('rejects where there are no service workers, and that is not unhandled (BR-10)', async () => {
    const auth = create('/sw.js')
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(rejections).toEqual([])
    await expect(auth.ready).rejects.toMatchObject({ name: 'TokenError', code: 'unsupported' })
    await expect(create().ready).rejects.toMatchObject({ code: 'unsupported' })
  })

  test('says so where the page is not secure', async () => {
    vi.stubGlobal('isSecureContext', false)
    await expect(create('/sw.js').ready).rejects.toMatchObject({
      code: 'insecure_context',
      message: expect.stringContaining('https'),
    })
  })

  test('resolves once the worker controls the page and answers first', async () => {
    const { asked } = installServiceWorker()
    await expect(create('/sw.js').ready).resolves.toBeUndefined()
    expect(asked).toEqual([
      ['hello', {}],
      ['session', {}],
    ])
    expect(fetch).toHaveBeenCalledWith(`${scope}tokenward/done.html`, { cache: 'no-store' })
  })

  test('registers the script with its scope and type, never from the HTTP cache (CF-12)', async () => {
    const { container } = installServiceWorker()
    await create('/app/sw.js', { scope: '/app/', type: 'module' }).ready
    expect(container['register']).toHaveBeenCalledWith('/app/sw.js', {
      scope: '/app/',
      type: 'module',
      updateViaCache: 'none',
    })
  })

  test('adopts what the app has registered, and registers nothing', async () => {
    const { container } = installServiceWorker()
    await expect(create().ready).resolves.toBeUndefined()
    expect(container['register']).not.toHaveBeenCalled()
  })

  test('asks the active worker to take control of a page that is not (BR-10)', async () => {
    const { asked } = installServiceWorker({ controlled: false })
    await expect(create('/sw.js').ready).resolves.toBeUndefined()
    expect(asked.map(([name]) => name)).toEqual(['hello', 'session', 'claim'])
  })

  test('rejects where the page is out of scope, and asks for no control', async () => {
    const { asked } = installServiceWorker({ controlled: false, scope: `${scope}app/` })
    await expect(create('/app/sw.js').ready).rejects.toMatchObject({ code: 'out_of_scope' })
    expect(asked.map(([name]) => name)).not.toContain('claim')
  })

  test('rejects where the script is not accepted, and says what to check', async () => {
    const register = () => Promise.reject(new TypeError('bad MIME type'))
    installServiceWorker({ register })
    await expect(create('/sw.js').ready).rejects.toMatchObject({
      code: 'worker_script_failed',
      message: expect.stringContaining('bad MIME type'),
    })
  })

  test('rejects where another listener answers first', async () => {
    installServiceWorker({ probe: () => new Response('<!doctype html>') })
    await expect(create('/sw.js').ready).rejects.toMatchObject({ code: 'worker_order' })
  })

  test('rejects where worker and page are of different versions (BR-09)', async () => {
    const { asked } = installServiceWorker({ protocol: PROTOCOL + 1 })
    const auth = create('/sw.js')
    await expect(auth.ready).rejects.toMatchObject({ code: 'bridge_version' })
    for (const call of [auth.session, auth.login, auth.checkSession, auth.renew, auth.logout]) {
      await expect(call()).rejects.toMatchObject({ code: 'bridge_version' })
    }
    expect(asked).toEqual([])
  })

  test('rejects with the error of a worker whose options are wrong', async () => {
    const hello = async () => {
      throw new TokenError('invalid_configuration', 'apis must be a list.')
    }
    installServiceWorker({ calls: { hello } })
    await expect(create('/sw.js').ready).rejects.toMatchObject({
      code: 'invalid_configuration',
      message: 'apis must be a list.',
    })
  })

  test('rejects where the worker does not know us', async () => {
    vi.useFakeTimers()
    try {
      installServiceWorker({ foreign: true })
      const ready = create('/sw.js').ready.catch((error: unknown) => error)
      await vi.advanceTimersByTimeAsync(11_000)
      expect(await ready).toMatchObject({ code: 'no_token_worker' })
    } finally {
      vi.useRealTimers()
    }
  })

  test('rejects where nobody registers a worker', async () => {
    vi.useFakeTimers()
    try {
      installServiceWorker({ registration: 'none' })
      const ready = create().ready.catch((error: unknown) => error)
      await vi.advanceTimersByTimeAsync(11_000)
      expect(await ready).toMatchObject({ code: 'no_registration' })
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('a page that a sign-in has landed on', () => {
  test('loses the bare # that the redirect left, and keeps its state', async () => {
    installServiceWorker()
    history.replaceState({ own: 1 }, '', '/orders?x=1#')
    await create('/sw.js').ready
    expect(location.href).toBe(`${scope}orders?x=1`)
    expect(history.state).toEqual({ own: 1 })
  })

  test('keeps a fragment of its own', async () => {
    installServiceWorker()
    history.replaceState(null, '', '/#/route')
    await create('/sw.js').ready
    expect(location.href).toBe(`${scope}#/route`)
  })

  test('tells the first listener why it failed, and only that one', async () => {
    const landing = { code: 'access_denied', message: 'No.' } as const
    const hello = async () => ({ probeUrl: scope, channel: 'changes', landing })
    installServiceWorker({ calls: { hello } })
    const auth = create('/sw.js')
    await auth.ready
    const [first, second] = [vi.fn(), vi.fn()]
    auth.onChange(first)
    await Promise.resolve()
    auth.onChange(second)
    await Promise.resolve()
    expect(first.mock.calls).toMatchObject([
      [{ type: 'problem', error: { name: 'TokenError', code: 'access_denied' } }],
    ])
    expect(second).not.toHaveBeenCalled()
  })
})

describe('a sign-in that begins again by itself (ER-06)', () => {
  const hello = async () => ({
    ...{ protocol: PROTOCOL, probeUrl: scope, channel: 'changes', landed: true as const },
    landing: { code: 'access_denied', message: 'No.' } as const,
  })
  const events: string[] = []
  /** A page on which a sign-in lands, and which begins the next at once: what it is refused with. */
  const land = async (calls: Partial<WorkerCalls> = {}) => {
    const { asked } = installServiceWorker({ calls: { hello, ...calls } })
    const auth = create('/sw.js')
    auth.onChange((event) => events.push(event.type))
    const refused = auth.login().catch(({ code }) => code)
    const left = vi
      .waitFor(() => expect(asked.map(([name]) => name)).toContain('login'))
      .then(() => undefined)
    const outcome = await Promise.race([refused, left])
    left.catch(() => {})
    auth.close()
    return outcome
  }
  const landTimes = async (times: number, calls?: Partial<WorkerCalls>) => {
    const outcomes: unknown[] = []
    for (let time = 0; time < times; time++) outcomes.push(await land(calls))
    return outcomes
  }
  beforeEach(() => sessionStorage.clear())
  afterEach(() => {
    Reflect.deleteProperty(navigator, 'userActivation')
    events.length = 0
  })
  const click = (hasBeenActive: boolean) =>
    Object.defineProperty(navigator, 'userActivation', {
      configurable: true,
      value: { hasBeenActive },
    })

  test('is stopped after three rounds in a minute, with login_loop', async () => {
    expect(await landTimes(4)).toEqual([undefined, undefined, 'login_loop', 'login_loop'])
    // Why each of them failed is told all the same.
    expect(events).toEqual(Array(4).fill('problem'))
  })

  test('is stopped too where each one works and the session does not last', async () => {
    const signedIn = async () => ({ ...(await hello()), landing: undefined })
    expect(await landTimes(3, { hello: signedIn })).toEqual([undefined, undefined, 'login_loop'])
  })

  test('may be wanted where there is a session, as for a second factor', async () => {
    const calls = { session: async () => ({ session: session() }) }
    expect(await landTimes(5, calls)).toEqual(Array(5).fill(undefined))
  })

  test('goes on after a click, and when the minute is over', async () => {
    click(false)
    expect(await landTimes(3)).toContain('login_loop')
    click(true)
    expect(await land()).toBeUndefined()
    click(false)
    const later = Date.now() + 60_001
    vi.spyOn(Date, 'now').mockImplementation(() => later)
    expect(await landTimes(2)).toEqual([undefined, undefined])
    expect(await land()).toBe('login_loop')
  })

  test('is none in five tabs that were restored, whose sign-ins have not come back', async () => {
    const fresh = async () => ({ ...(await hello()), landed: undefined, landing: undefined })
    expect(await landTimes(5, { hello: fresh })).toEqual(Array(5).fill(undefined))
    // Another tab has storage of its own.
    expect(await landTimes(2)).toEqual([undefined, undefined])
    sessionStorage.clear()
    expect(await landTimes(2)).toEqual([undefined, undefined])
  })

  test('keeps nothing but times, and does without where there is no storage', async () => {
    await landTimes(2)
    expect(Object.values({ ...sessionStorage })).toEqual([expect.stringMatching(/^\[\d+,\d+\]$/)])
    sessionStorage.setItem('tokenward rounds', 'nonsense')
    expect(await land()).toBeUndefined()
    vi.stubGlobal('sessionStorage', undefined)
    expect(await landTimes(4)).toEqual(Array(4).fill(undefined))
  })
})

describe('events', () => {
  const listen = async (options: BrowserOptions = {}) => {
    const browser = installServiceWorker(options)
    const auth = create('/sw.js')
    await auth.ready
    const events: SessionEvent[] = []
    auth.onChange((event) => events.push(event))
    return { ...browser, auth, events }
  }

  test('of our worker arrive, with errors as errors', async () => {
    const { tell, events } = await listen()
    tell({ type: 'signed-in', session: session() })
    tell({ type: 'login-required', error: { code: 'login_required', message: 'x' } })
    expect(events).toMatchObject([
      { type: 'signed-in', session: { claims: { sub: 'alice' } } },
      { type: 'login-required', error: { name: 'TokenError', code: 'login_required' } },
    ])
  })

  test('of anybody else do not (BR-03)', async () => {
    const { tell, events } = await listen()
    for (const source of [null, {}, new EventTarget(), window]) {
      tell({ type: 'signed-out', reason: 'logout' }, source)
    }
    expect(events).toEqual([])
  })

  test('of any worker but problems do not, until it is known which one is ours (BR-03)', async () => {
    let register = (_found: unknown) => {}
    const registered = new Promise((resolve) => (register = resolve))
    const { tell, registration } = installServiceWorker({ register: () => registered })
    const auth = create('/sw.js')
    const events: SessionEvent[] = []
    auth.onChange((event) => void events.push(event))
    tell({ type: 'signed-in', session: session() }, new EventTarget())
    tell({ type: 'signed-out', reason: 'logout' }, new EventTarget())
    tell({ type: 'problem', error: { code: 'clock', message: '' } }, new EventTarget())
    register(registration)
    await auth.ready
    expect(events.map(({ type }) => type)).toEqual(['problem'])
  })

  test('of other kinds do not', async () => {
    const { container, worker, events } = await listen()
    for (const data of [null, 'x', {}, { tokenward: '1', event: { type: 'signed-out' } }]) {
      container.dispatchEvent(
        Object.assign(new Event('message'), { data, source: worker, ports: [] }),
      )
    }
    expect(events).toEqual([])
  })

  test('reach the other listeners where one throws', async () => {
    const { tell, auth } = await listen()
    const reported = vi.fn()
    vi.stubGlobal('reportError', reported)
    const error = new Error('in the app')
    const other = vi.fn()
    auth.onChange(() => {
      throw error
    })
    auth.onChange(other)
    tell({ type: 'signed-out', reason: 'logout' })
    expect(other).toHaveBeenCalledTimes(1)
    expect(reported).toHaveBeenCalledWith(error)
  })

  test('stop with the function, the signal, and close()', async () => {
    const { tell, auth, events } = await listen()
    const listener = vi.fn()
    auth.onChange(listener)()
    const abort = new AbortController()
    auth.onChange(listener, { signal: abort.signal })
    abort.abort()
    auth.onChange(listener, { signal: abort.signal })
    tell({ type: 'signed-out', reason: 'logout' })
    expect(listener).not.toHaveBeenCalled()
    auth.close()
    tell({ type: 'signed-out', reason: 'logout' })
    expect(events).toHaveLength(1)
  })
})

describe('a page that comes back', () => {
  /** What the page tells its listeners when it is shown again. */
  const comeBack = async (before: Session | undefined, after: Session | undefined) => {
    let current = before
    const browser = installServiceWorker({
      calls: { session: async () => (current ? { session: current } : { ended: 'logout' }) },
    })
    const auth = create('/sw.js')
    await auth.ready
    const events: SessionEvent[] = []
    auth.onChange((event) => events.push(event))
    current = after
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await vi.waitFor(() => expect(browser.asked).toHaveLength(3))
    await new Promise((resolve) => setTimeout(resolve, 5))
    return events
  }

  test('learns that it has been signed out', async () => {
    expect(await comeBack(session(), undefined)).toEqual([{ type: 'signed-out', reason: 'logout' }])
  })

  test('learns that somebody has signed in', async () => {
    expect(await comeBack(undefined, session())).toEqual([
      { type: 'signed-in', session: session() },
    ])
    const other = session({ since: 2 })
    expect(await comeBack(session(), other)).toEqual([{ type: 'signed-in', session: other }])
  })

  test('learns that the state has changed', async () => {
    const stale = session({ state: 'stale' })
    expect(await comeBack(session(), stale)).toEqual([{ type: 'state', session: stale }])
  })

  test('learns that the access token was renewed, unless it has expired again', async () => {
    const renewed = session({ accessTokenExpiresAt: 900_000 })
    expect(await comeBack(session(), renewed)).toEqual([{ type: 'renewed', session: renewed }])
    const stale = session({ state: 'stale' })
    expect(await comeBack(stale, renewed)).toEqual([{ type: 'renewed', session: renewed }])
    const again = session({ accessTokenExpiresAt: 900_000, state: 'stale' })
    expect(await comeBack(session(), again)).toEqual([{ type: 'state', session: again }])
  })

  test('tells it once, although it is also visible again, and the worker’s own event was queued (BR-11)', async () => {
    let current: Session | undefined = session()
    let answers = () => {}
    const answered = () => new Promise<void>((resolve) => (answers = resolve))
    let wait = async () => {}
    const { asked, tell } = installServiceWorker({
      calls: {
        session: async () => {
          const report = current ? { session: current } : { ended: 'logout' as const }
          await wait()
          return report
        },
      },
    })
    const auth = create('/sw.js')
    await auth.ready
    const events: SessionEvent[] = []
    auth.onChange((event) => void events.push(event))
    current = undefined
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    document.dispatchEvent(new Event('visibilitychange'))
    await vi.waitFor(() => expect(asked).toHaveLength(4))
    await vi.waitFor(() => expect(events).not.toEqual([]))
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(events).toEqual([{ type: 'signed-out', reason: 'logout' }])

    tell({ type: 'signed-in', session: session() })
    wait = answered
    document.dispatchEvent(new Event('visibilitychange'))
    await vi.waitFor(() => expect(asked).toHaveLength(5))
    tell({ type: 'signed-out', reason: 'logout' })
    answers()
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(events.filter(({ type }) => type === 'signed-out')).toHaveLength(2)
  })

  test('learns that another user has replaced the one it showed, before it learns who (SE-08)', async () => {
    const other = session({ since: 2, claims: { sub: 'bob' } })
    expect(await comeBack(session(), other)).toEqual([
      { type: 'signed-out', reason: 'user_changed' },
      { type: 'signed-in', session: other },
    ])
  })

  test('says nothing where nothing has changed', async () => {
    expect(await comeBack(session(), session())).toEqual([])
    expect(await comeBack(undefined, undefined)).toEqual([])
  })

  test('says nothing of a session after checkSession found nobody: that ended nothing', async () => {
    const { asked } = installServiceWorker({
      calls: { session: async () => ({ session: session() }), checkSession: async () => ({}) },
    })
    const auth = create('/sw.js')
    await auth.ready
    const listener = vi.fn()
    auth.onChange(listener)
    expect(await auth.checkSession()).toBeUndefined()
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await vi.waitFor(() => expect(asked).toHaveLength(4))
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(listener).not.toHaveBeenCalled()
  })
})

describe('a call', () => {
  test('of session() asks the worker, and needs no control', async () => {
    installServiceWorker({
      controlled: false,
      calls: { claim: async () => {}, session: async () => ({ session: session() }) },
    })
    expect(await create('/sw.js').session()).toEqual(session())
  })

  test('of renew() and checkSession() says why it failed, as an error', async () => {
    const fail = async () => {
      throw new TokenError('offline', 'There is no network.')
    }
    installServiceWorker({ calls: { renew: fail, checkSession: fail } })
    const auth = create('/sw.js')
    for (const work of [auth.renew(), auth.checkSession()]) {
      await expect(work).rejects.toMatchObject({
        name: 'TokenError',
        code: 'offline',
        transient: true,
      })
    }
  })

  test('of login() comes back to this page by default, hash included', async () => {
    const { asked } = installServiceWorker()
    history.replaceState(null, '', '/orders?x#/deep')
    const auth = create('/sw.js')
    auth.login({ params: { prompt: 'login' } }).catch(() => {})
    await vi.waitFor(() => expect(asked.map(([name]) => name)).toContain('login'))
    expect(asked.find(([name]) => name === 'login')?.[1]).toEqual({
      returnTo: `${scope}orders?x#/deep`,
      params: { prompt: 'login' },
    })
  })

  test.each([
    ['out_of_scope', { controlled: false, scope: `${scope}app/` }],
    ['worker_order', { probe: () => new Response('<!doctype html>') }],
  ] as const)('of login() says %s as ready does, and stays', async (code, options) => {
    const { asked } = installServiceWorker(options)
    const auth = create('/app/sw.js')
    // At once, and after ready has said it.
    await expect(auth.login()).rejects.toMatchObject({ code })
    await expect(auth.ready).rejects.toMatchObject({ code })
    await expect(auth.login()).rejects.toMatchObject({ code })
    expect(asked.map(([name]) => name)).not.toContain('login')
  })

  test.each(['preventDefault', 'returnValue'])(
    'of login() goes on at once after a user who was asked has stayed (%s)',
    async (way) => {
      const { asked } = installServiceWorker()
      const auth = create('/sw.js')
      const first = auth.login()
      first.catch(() => {})
      await vi.waitFor(() => expect(location.hash).toBe('#left'))
      const event = new Event('beforeunload', { cancelable: true })
      if (way === 'returnValue') Object.defineProperty(event, 'returnValue', { value: 'Stay?' })
      else addEventListener('beforeunload', (asks) => asks.preventDefault(), { once: true })
      dispatchEvent(event)
      await new Promise((resolve) => setTimeout(resolve))
      const second = auth.login()
      second.catch(() => {})
      expect(second).not.toBe(first)
      await vi.waitFor(() => expect(asked.filter(([name]) => name === 'login')).toHaveLength(2))
      dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    },
  )

  test('of login() twice is one, and Back ends it (AR-18)', async () => {
    const { asked } = installServiceWorker()
    const auth = create('/sw.js')
    const [first, second] = [auth.login(), auth.login()]
    expect(second).toBe(first)
    await vi.waitFor(() => expect(location.hash).toBe('#left'))
    expect(asked.filter(([name]) => name === 'login')).toHaveLength(1)
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: false }))
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await expect(first).rejects.toMatchObject({ code: 'cancelled' })
    const third = auth.login()
    third.catch(() => {})
    expect(third).not.toBe(first)
    await vi.waitFor(() => expect(asked.filter(([name]) => name === 'login')).toHaveLength(2))
  })

  test('of logout() stays where there is nowhere to go', async () => {
    const { asked } = installServiceWorker()
    expect(await create('/sw.js').logout({ local: true })).toEqual({ server: 'unknown' })
    expect(asked.find(([name]) => name === 'logout')?.[1]).toEqual({ local: true })
  })

  test('of logout() leaves for the server, and asks for the outcome on Back', async () => {
    const logout = async () => ({ url: `${scope}#away`, atServer: true })
    const { asked } = installServiceWorker({ calls: { logout } })
    const done = create('/sw.js').logout({ returnTo: '/bye' })
    await vi.waitFor(() => expect(location.hash).toBe('#away'))
    expect(asked.find(([name]) => name === 'logout')?.[1]).toEqual({ returnTo: `${scope}bye` })
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    expect(await done).toEqual({ server: 'ended' })
    expect(asked.at(-1)).toEqual(['logoutOutcome', { url: `${scope}#away` }])
  })

  /** The worker is stopped in the middle of this call: it has taken the message, and is silent. */
  const callToStopped = async <T>(
    calls: NonNullable<Parameters<typeof installServiceWorker>[0]>['calls'],
    call: (auth: TokenManager) => Promise<T>,
  ) => {
    const { worker, asked } = installServiceWorker({ calls })
    const post = worker.postMessage
    const auth = create('/sw.js')
    await vi.advanceTimersByTimeAsync(100)
    asked.length = 0
    worker.postMessage = () => {
      worker.postMessage = post
    }
    const answer = call(auth).catch(({ code }) => code)
    await vi.advanceTimersByTimeAsync(5_000)
    return { answer, asked }
  }

  describe('in the middle of which the worker is stopped (BR-05)', () => {
    beforeEach(() => void vi.useFakeTimers())
    afterEach(() => void vi.useRealTimers())

    test('is asked once more, where that does no harm', async () => {
      const calls = { session: async () => ({ session: session() }) }
      const { answer } = await callToStopped(calls, (auth) => auth.session())
      vi.useRealTimers()
      expect(await answer).toEqual(session())
    })

    test('is asked again as long as a worker that is busy would let it join', async () => {
      const { answer, asked } = await callToStopped({}, (auth) => auth.renew())
      vi.useRealTimers()
      expect(await answer).toBeUndefined()
      expect(asked.filter(([name]) => name === 'renew')).toHaveLength(1)
    })

    test('is given up in the end, if it could do harm twice', async () => {
      const { answer, asked } = await callToStopped({}, (auth) => auth.logout({ local: true }))
      await vi.advanceTimersByTimeAsync(55_000)
      vi.useRealTimers()
      expect(await answer).toBe('worker_timeout')
      expect(asked.filter(([name]) => name === 'logout')).toEqual([])
    })
  })
})

test('two managers in one page hear the same', async () => {
  const { tell } = installServiceWorker()
  const managersHere = [create('/sw.js'), create()]
  await Promise.all(managersHere.map(({ ready }) => ready))
  const listener = vi.fn()
  for (const auth of managersHere) auth.onChange(listener)
  tell({ type: 'signed-out', reason: 'logout' })
  expect(listener).toHaveBeenCalledTimes(2)
})

describe('what happens outside of this page', () => {
  const started = async (session: { value?: Session; loginRequired?: true } = {}) => {
    const { asked, tell } = installServiceWorker({
      calls: {
        session: async () => ({ session: session.value, loginRequired: session.loginRequired }),
      },
    })
    const auth = create('/sw.js')
    await auth.ready
    const events: SessionEvent[] = []
    auth.onChange((event) => void events.push(event))
    asked.length = 0
    return { auth, asked, events, tell }
  }
  const announce = async (data: unknown) => {
    const channel = new BroadcastChannel('changes')
    channel.postMessage(data)
    await new Promise((resolve) => setTimeout(resolve, 20))
    channel.close()
  }

  test('the network is back: the worker gets to know (OF-05)', async () => {
    const { asked } = await started()
    window.dispatchEvent(new Event('online'))
    await vi.waitFor(() => expect(asked).toEqual([['online', {}]]))
  })

  test('a worker with another scope has changed the session: ours is asked (SE-05, BR-07)', async () => {
    const session: { value?: Session } = {}
    const { events } = await started(session)
    session.value = { claims: {}, scope: '', since: 1, state: 'fresh' }
    await announce({ generation: 3, scope: 'https://app.example/other/' })
    const signedIn = { type: 'signed-in', session: session.value }
    await vi.waitFor(() => expect(events).toEqual([signedIn]))
  })

  test('such a worker has asked its own pages for a sign-in: so do we, once (SE-12)', async () => {
    const now: Parameters<typeof started>[0] = { value: session({ state: 'stale' }) }
    const { events, tell } = await started(now)
    now.loginRequired = true
    for (let generation = 1; generation < 4; generation++) {
      await announce({ generation, scope: 'https://app.example/other/' })
    }
    expect(events).toMatchObject([
      { type: 'login-required', error: { code: 'login_required' }, session: now.value },
    ])
    // Asked for by our own worker, it has been told already.
    tell({ type: 'renewed', session: session() })
    tell({
      type: 'login-required',
      error: { code: 'no_page', message: '' },
      session: session({ state: 'stale' }),
    })
    tell({ type: 'state', session: session({ state: 'stale' }) })
    await announce({ generation: 4, scope: 'https://app.example/other/' })
    expect(events.filter(({ type }) => type === 'login-required')).toHaveLength(2)
  })

  test('what was there before this page is no news (BR-11)', async () => {
    let begin = () => {}
    const begun = new Promise<void>((resolve) => (begin = resolve))
    const { asked } = installServiceWorker({
      calls: {
        session: async () => {
          if (asked.filter(([name]) => name === 'session').length === 1) await begun
          return { session: session() }
        },
      },
    })
    const auth = create('/sw.js')
    const events: SessionEvent[] = []
    auth.onChange((event) => void events.push(event))
    await vi.waitFor(() => expect(asked.at(-1)?.[0]).toBe('session'))
    await announce({ scope: 'elsewhere' })
    begin()
    await auth.ready
    expect(events).toEqual([])
  })

  test('a sign-in was needed before this page: the first listener hears of it (SE-12)', async () => {
    const report = { session: session({ state: 'stale' }), loginRequired: true as const }
    installServiceWorker({ calls: { session: async () => report } })
    const auth = create('/sw.js')
    await auth.ready
    const events: SessionEvent[] = []
    auth.onChange((event) => void events.push(event))
    await Promise.resolve()
    expect(events).toMatchObject([{ type: 'login-required', error: { code: 'login_required' } }])
    auth.onChange((event) => void events.push(event))
    await Promise.resolve()
    expect(events).toHaveLength(1)
  })

  test('a sign-in that was needed is not, by the time somebody listens', async () => {
    const report = { session: session({ state: 'stale' }), loginRequired: true as const }
    const { tell } = installServiceWorker({ calls: { session: async () => report } })
    const auth = create('/sw.js')
    await auth.ready
    tell({ type: 'renewed', session: session() })
    const events: SessionEvent[] = []
    auth.onChange((event) => void events.push(event))
    await Promise.resolve()
    expect(events).toEqual([])
  })

  test('our own worker tells by itself, and nothing is asked', async () => {
    const { asked } = await started()
    await announce({ generation: 3, scope })
    expect(asked).toEqual([])
  })

  test('what such a message says is not believed (BR-07)', async () => {
    const { events } = await started()
    for (const data of ['x', null, { type: 'signed-out' }, { event: { type: 'signed-out' } }]) {
      await announce(data)
    }
    expect(events).toEqual([])
  })

  test('a flood of such messages is no flood of questions (BR-07)', async () => {
    const { asked, events } = await started()
    const channel = new BroadcastChannel('changes')
    for (let count = 0; count < 2_000; count++) channel.postMessage({ scope: `forged ${count}` })
    // Heard in order, so by then the others have been.
    const last = new Promise((resolve) => {
      const listener = new BroadcastChannel('changes')
      listener.onmessage = ({ data }) => {
        if (data !== 'last') return
        listener.close()
        resolve(data)
      }
    })
    channel.postMessage('last')
    await last
    await vi.waitFor(() => expect(asked).not.toEqual([]))
    await new Promise((resolve) => setTimeout(resolve, 20))
    channel.close()
    expect(asked.length).toBeLessThan(200)
    expect(events).toEqual([])
    // The page still hears what is said to it later.
    asked.length = 0
    await announce({ scope: 'elsewhere' })
    await vi.waitFor(() => expect(asked).toEqual([['session', {}]]))
  })

  test.each(['pagehide', 'close'])('is not heard after %s', async (how) => {
    const { auth, asked } = await started()
    if (how === 'close') auth.close()
    else window.dispatchEvent(new Event('pagehide'))
    await announce({ scope: 'elsewhere' })
    expect(asked).toEqual([])
  })

  test('is not heard where close() came before the worker had answered', async () => {
    const { asked } = installServiceWorker()
    const auth = create('/sw.js')
    auth.close()
    await auth.ready
    asked.length = 0
    await announce({ scope: 'elsewhere' })
    expect(asked).toEqual([])
  })

  test('is heard again by a page that comes back', async () => {
    const { asked } = await started()
    window.dispatchEvent(new Event('pagehide'))
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await vi.waitFor(() => expect(asked).toHaveLength(1))
    await announce({ scope: 'elsewhere' })
    await vi.waitFor(() => expect(asked.map(([name]) => name)).toEqual(['session', 'session']))
  })
})
