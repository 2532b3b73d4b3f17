import { describe, expect, test, vi } from 'vitest'
import type { FrameEnd, PageCalls } from '../../src/shared/protocol.js'
import { createPageBridge } from '../../sw/page-bridge.js'
import { withTokens } from '../../sw/session/active-record.js'
import type { ActiveRecord, Outcome } from '../../sw/session/records.js'
import { createSilentLogin } from '../../sw/token/silent-login.js'
import { type FakePage, fakePage } from '../support/fake-platform.js'
import { createUnitWorld } from '../support/worker-parts.js'

interface Behaviour extends Partial<FakePage> {
  able?: boolean
  /** What `document.visibilityState` says, as opposed to `clients`. */
  reallyVisible?: boolean
  /** What happens in the frame; only how it ended, where the rest is as usual. */
  frame?: (input: {
    url: string
    doneUrl: string
    limit: number
  }) => Promise<FrameEnd['end'] | FrameEnd>
  /** Has no script of ours. */
  foreign?: boolean
}

const createWorld = async ({
  limit = 10_000,
  enabled = true,
}: {
  limit?: number
  enabled?: boolean
} = {}) => {
  const world = createUnitWorld()
  const worker = world.createWorker()
  const { browser } = world
  const record = (await worker.session.change(() => ({
    ...({ status: 'active', generation: 0, session: 'session-1', since: 0, claims: {} } as const),
    ...{ scope: 'openid', accessTokenIssuedAt: 0, protocolEndpoints: [] },
  }))) as { after: ActiveRecord }
  const opened: { page: string; url: string; doneUrl: string; limit: number }[] = []
  const probed: string[] = []

  /** Ends the transaction of a frame, as the worker does when the server has answered. */
  const finish = async (url: string, result: Outcome['result']) => {
    const ticket = new URL(url).searchParams.get('ticket')
    const departure = await worker.transactions.depart(ticket, ['silent', 'check'])
    await worker.transactions.arrive(departure?.state)
    await worker.transactions.finish(departure!.state, departure!.transaction, result)
  }

  const open = (
    id: string,
    { able = true, reallyVisible = true, frame, foreign, ...page }: Behaviour = {},
  ) => {
    const calls: PageCalls = {
      probe: () => {
        probed.push(id)
        return { able, visible: reallyVisible }
      },
      openFrame: async (input) => {
        opened.push({ page: id, ...input })
        const end = (await frame?.(input)) ?? (await new Promise<never>(() => {}))
        return typeof end === 'string' ? { end, loaded: true, isolated: false } : end
      },
    }
    browser.pages.push(fakePage({ id, ...page, ...(!foreign && { calls }) }))
  }

  const silentLogin = createSilentLogin({
    config: { ...world.config, silentLogin: enabled, silentLoginTimeout: limit },
    transactions: worker.transactions,
    session: worker.session,
    callPage: createPageBridge({ platform: worker.platform }).call,
    platform: worker.platform,
  })
  const answering =
    (result: Outcome['result']) =>
    async ({ url }: { url: string }) => {
      await finish(url, result)
      return 'done' as const
    }
  const close = (id: string) => {
    for (const page of browser.pages) if (page.id === id) page.closed = true
  }
  return {
    ...world,
    ...worker,
    record: record.after,
    silentLogin,
    open,
    close,
    opened,
    probed,
    answering,
    finish,
  }
}

const errorOf = (code: string) => ({ error: { code, message: 'm' } }) as Outcome['result']

describe('the page for a silent login (SI-06)', () => {
  /** The page that was chosen among these. */
  const choose = async (pages: Record<string, Behaviour>, preferred?: string) => {
    const world = await createWorld()
    for (const [id, page] of Object.entries(pages)) {
      world.open(id, { frame: world.answering('signed-in'), ...page })
    }
    const outcome = world.silentLogin({ purpose: 'check', page: preferred })
    await world.browser.pass(1_000)
    await outcome
    expect(world.opened.length).toBeLessThan(2)
    return world.opened[0]?.page
  }

  test('is visible rather than hidden', async () => {
    expect(await choose({ a: { reallyVisible: false }, b: {}, c: { reallyVisible: false } })).toBe(
      'b',
    )
  })

  test('is focused rather than only visible', async () => {
    expect(await choose({ a: {}, b: { focused: true } })).toBe('b')
    expect(await choose({ a: { focused: true, reallyVisible: false }, b: {} })).toBe('b')
  })

  test('is the one that asked, if it can', async () => {
    expect(await choose({ a: { focused: true }, b: { reallyVisible: false } }, 'b')).toBe('b')
    expect(await choose({ a: {}, b: { able: false } }, 'b')).toBe('a')
  })

  test('is hidden rather than none', async () => {
    expect(await choose({ a: { reallyVisible: false } })).toBe('a')
  })

  test('is never a frame, a page that is only prerendered, or one without our script (SI-09)', async () => {
    expect(await choose({ a: { topLevel: false }, b: { able: false }, c: { foreign: true } })).toBe(
      undefined,
    )
    expect(await choose({ a: { topLevel: false }, b: {} })).toBe('b')
  })

  test('is looked for in all of them at the same time, for a second', async () => {
    const world = await createWorld()
    for (let index = 0; index < 10; index++) world.open(`foreign-${index}`, { foreign: true })
    world.open('ours', { frame: world.answering('signed-in') })
    const outcome = world.silentLogin({ purpose: 'check' })
    await world.browser.pass(1_000)
    expect((await outcome).kind).toBe('signed-in')
    expect(world.opened).toHaveLength(1)
  })

  test('gets a one-time URL of our own, the place where it ends, and a limit (SI-01)', async () => {
    const world = await createWorld({ limit: 5_000 })
    world.open('a', { frame: world.answering('signed-in') })
    await world.silentLogin({ purpose: 'renew', record: world.record })
    expect(world.opened).toEqual([
      {
        page: 'a',
        url: expect.stringMatching(
          /^https:\/\/app\.example\/tokenward\/silent\.html\?ticket=[\w-]{43}$/,
        ),
        doneUrl: 'https://app.example/tokenward/done.html',
        limit: 5_000,
      },
    ])
  })
})

describe('a silent login ends', () => {
  test('with the record, where the server knew the user', async () => {
    const { silentLogin, open, answering, record } = await createWorld()
    open('a', { frame: answering('signed-in') })
    expect(await silentLogin({ purpose: 'renew', record })).toEqual({ kind: 'signed-in', record })
  })

  test('as superseded, where the session is over by then', async () => {
    const world = await createWorld()
    world.open('a', {
      frame: async (input) => {
        await world.session.end('ended')
        return await world.answering('signed-in')(input)
      },
    })
    const outcome = await world.silentLogin({ purpose: 'renew', record: world.record })
    expect(outcome).toEqual({ kind: 'superseded' })
  })

  test.each(['renew', 'check'] as const)(
    'as superseded, where a sign-out has taken it away (%s) (SE-01)',
    async (purpose) => {
      const world = await createWorld()
      world.open('a', {
        frame: async () => {
          await world.session.end('logout')
          return { end: 'done', loaded: true, isolated: false }
        },
      })
      const outcome = await world.silentLogin({ purpose, record: world.record })
      expect(outcome).toEqual({ kind: 'superseded' })
    },
  )

  test('as superseded, where the server knows another user (SI-07)', async () => {
    const { silentLogin, open, answering, record } = await createWorld()
    open('a', { frame: answering(errorOf('user_changed')) })
    expect(await silentLogin({ purpose: 'renew', record })).toEqual({ kind: 'superseded' })
  })

  test.each([
    ...['login_required', 'consent_required', 'interaction_required', 'account_selection_required'],
  ])('as refused by %s (SI-05)', async (code) => {
    const { silentLogin, open, answering } = await createWorld()
    open('a', { frame: answering(errorOf(code)) })
    const outcome = await silentLogin({ purpose: 'check' })
    expect(outcome).toMatchObject({ kind: 'refused', error: { code, name: 'TokenError' } })
  })

  test.each(['access_denied', 'server_error', 'invalid_callback', 'invalid_scope', 'timeout'])(
    'as failed by %s, which says nothing of the user',
    async (code) => {
      const { silentLogin, open, answering } = await createWorld()
      open('a', { frame: answering(errorOf(code)) })
      const outcome = await silentLogin({ purpose: 'check' })
      expect(outcome).toMatchObject({ kind: 'failed', error: { code } })
    },
  )

  test('as failed by timeout, where no answer came in the frame’s time (SI-04)', async () => {
    const { silentLogin, open, opened } = await createWorld()
    open('a', { frame: async () => 'timeout' })
    open('b', { frame: async () => 'done' })
    const outcome = await silentLogin({ purpose: 'check' })
    expect(outcome).toMatchObject({ kind: 'failed', error: { code: 'timeout', transient: true } })
    // Another page would only wait for the same server.
    expect(opened).toHaveLength(1)
  })

  test('as failed by timeout, where the page never says how the frame ended (SI-04)', async () => {
    const { browser, silentLogin, open, opened } = await createWorld()
    open('a')
    const outcome = silentLogin({ purpose: 'check' })
    await vi.waitFor(() => expect(opened).toHaveLength(1))
    await browser.pass(11_000)
    expect(await outcome).toMatchObject({ kind: 'failed', error: { code: 'timeout' } })
    // The look for the page goes on until its next turn, at most.
    expect(browser.timers()).toBe(0)
  })

  test('only when a code that has arrived is redeemed, if the frame’s time is over before (RF-07)', async () => {
    const { browser, silentLogin, open, record, transactions, opened } = await createWorld()
    let redeemed = async () => {}
    open('a', {
      frame: async ({ url }) => {
        const ticket = new URL(url).searchParams.get('ticket')
        const departure = await transactions.depart(ticket, ['silent'])
        const { state = '', transaction } = departure ?? {}
        await transactions.arrive(state)
        redeemed = () => transactions.finish(state, transaction!, 'signed-in')
        return 'timeout'
      },
    })
    const outcome = silentLogin({ purpose: 'renew', record })
    await vi.waitFor(() => expect(opened).toHaveLength(1))
    await browser.pass(3_000)
    await redeemed()
    await browser.pass(1_000)
    expect(await outcome).toMatchObject({ kind: 'signed-in' })
  })

  test('without an answer, if the worker that redeems the code is stopped (CB-15)', async () => {
    const { browser, silentLogin, open, record, transactions } = await createWorld()
    open('a', {
      frame: async ({ url }) => {
        const ticket = new URL(url).searchParams.get('ticket')
        const departure = await transactions.depart(ticket, ['silent'])
        await transactions.arrive(departure?.state)
        return 'timeout'
      },
    })
    const outcome = silentLogin({ purpose: 'renew', record })
    let isOver = false
    outcome.finally(() => {
      isOver = true
    })
    // Each wait begins some reads of the disk after the one before.
    while (!isOver) {
      await browser.pass(1_000)
      await new Promise((resolve) => setTimeout(resolve))
    }
    expect(await outcome).toMatchObject({ kind: 'failed', error: { code: 'timeout' } })
  })

  test('as failed by a policy that forbids frames, with the remedy', async () => {
    const { silentLogin, open } = await createWorld()
    open('a', { frame: async () => 'blocked' })
    const outcome = await silentLogin({ purpose: 'check' })
    expect(outcome).toMatchObject({ kind: 'failed', error: { code: 'silent_login_blocked' } })
    expect('error' in outcome && outcome.error.message).toContain('frame-src')
  })

  test('as failed without a page, and nothing has begun (SI-06)', async () => {
    const { silentLogin, store } = await createWorld()
    const outcome = await silentLogin({ purpose: 'check' })
    expect(outcome).toMatchObject({ kind: 'failed', error: { code: 'no_page' } })
    expect(await store.readTransaction('any')).toBeUndefined()
  })

  test('as failed offline, and no page is asked (SI-09, OF-08)', async () => {
    const { browser, silentLogin, open, probed } = await createWorld()
    open('a')
    browser.online = false
    const outcome = await silentLogin({ purpose: 'check' })
    expect(outcome).toMatchObject({ kind: 'failed', error: { code: 'offline' } })
    expect(probed).toEqual([])
  })
})

describe('a page that goes away (SI-06)', () => {
  test('hands over to the next one, with a ticket of its own', async () => {
    const { browser, silentLogin, open, close, opened, answering } = await createWorld()
    open('a', { focused: true })
    open('b', { frame: answering('signed-in') })
    const outcome = silentLogin({ purpose: 'check' })
    await vi.waitFor(() => expect(opened).toHaveLength(1))
    close('a')
    await browser.pass(500)
    expect((await outcome).kind).toBe('signed-in')
    expect(opened.map(({ page }) => page)).toEqual(['a', 'b'])
    expect(opened[0]?.url).not.toBe(opened[1]?.url)
  })

  test('and was the last one leaves nobody to ask', async () => {
    const { browser, silentLogin, open, close, opened } = await createWorld()
    open('a')
    const outcome = silentLogin({ purpose: 'check' })
    await vi.waitFor(() => expect(opened).toHaveLength(1))
    close('a')
    await browser.pass(500)
    expect(await outcome).toMatchObject({ kind: 'failed', error: { code: 'no_page' } })
  })

  test('after the worker had the answer has done its work', async () => {
    const { browser, silentLogin, open, close, finish, opened } = await createWorld()
    open('a')
    const outcome = silentLogin({ purpose: 'check' })
    await vi.waitFor(() => expect(opened).toHaveLength(1))
    await finish(opened[0]!.url, 'signed-in')
    close('a')
    await browser.pass(500)
    expect((await outcome).kind).toBe('signed-in')
  })

  test('again and again ends before those who wait give up', async () => {
    const { browser, silentLogin, open, close, opened } = await createWorld()
    for (const id of 'abcdef') {
      open(id, {
        frame: async () => {
          setImmediate(async () => {
            await browser.platform().wait(9_000)
            close(id)
          })
          return await new Promise(() => {})
        },
      })
    }
    const outcome = silentLogin({ purpose: 'check' })
    await browser.pass(25_000)
    expect((await outcome).kind).toBe('failed')
    expect(opened.length).toBeLessThanOrEqual(2)
  })
})

describe('a hint of whom it is for is a help, and fails no silent login', () => {
  const withHint = async (...ends: (Outcome['result'] | 'nothing')[]) => {
    const world = await createWorld()
    const { opened, finish, session } = world
    const record = (await session.changeOwn('session-1', (current) => ({
      ...current,
      idToken: 'the-id-token',
    }))) as ActiveRecord
    const frame = async ({ url }: { url: string }) => {
      const end = ends[opened.length - 1] ?? 'nothing'
      if (end === 'nothing') return 'timeout' as const
      await finish(url, end)
      return 'done' as const
    }
    world.open('a', { frame })
    const departures: unknown[] = []
    const { begin } = world.transactions
    world.transactions.begin = (transaction) => {
      departures.push(transaction.hintless)
      return begin(transaction)
    }
    const stored = async () => (await world.store.read()) as ActiveRecord
    return { ...world, record, departures, stored }
  }

  test.each([
    ...['invalid_request', 'server_error', 'temporarily_unavailable', 'access_denied'],
    ...['invalid_callback', 'invalid_token_response'],
  ])('that is answered by %s is tried once more, without it', async (code) => {
    const { silentLogin, record, departures } = await withHint(errorOf(code), 'signed-in')
    expect(await silentLogin({ purpose: 'renew', record })).toMatchObject({ kind: 'signed-in' })
    expect(departures).toEqual([undefined, true])
  })

  test('that the server shows a page for is tried once more, without it', async () => {
    const { silentLogin, record, departures } = await withHint('nothing', 'signed-in')
    expect(await silentLogin({ purpose: 'renew', record })).toMatchObject({ kind: 'signed-in' })
    expect(departures).toEqual([undefined, true])
  })

  test('that fails without it too ends with that error, and counts as one', async () => {
    const { silentLogin, record, departures, stored } = await withHint(
      ...[errorOf('invalid_request'), errorOf('invalid_scope')],
    )
    expect(await silentLogin({ purpose: 'renew', record })).toMatchObject({
      kind: 'failed',
      error: { code: 'invalid_scope' },
    })
    expect(departures).toEqual([undefined, true])
    expect(await stored()).toMatchObject({ silentLoginFailed: { times: 1 } })
    expect((await stored()).hintRefused).toBeUndefined()
  })

  test('that gets no answer again and again takes the user’s time once only', async () => {
    const { silentLogin, record, departures, stored } = await withHint()
    await silentLogin({ purpose: 'renew', record })
    await silentLogin({ purpose: 'renew', record: await stored() })
    expect(departures).toEqual([undefined, true, undefined])
  })

  test.each(['login_required', 'consent_required'])(
    'that is answered by %s has its answer',
    async (code) => {
      const { silentLogin, record, departures } = await withHint(errorOf(code))
      expect(await silentLogin({ purpose: 'renew', record })).toMatchObject({ kind: 'refused' })
      expect(departures).toEqual([undefined])
    },
  )

  test.each<[string, 'refused' | 'failed']>([
    ['login_required', 'refused'],
    // The server does not know who is meant: that ends nobody's session.
    ['account_selection_required', 'failed'],
    ['interaction_required', 'failed'],
  ])('without it, %s counts as %s, and the next one begins without it', async (code, kind) => {
    const world = await withHint(errorOf('invalid_request'), errorOf(code))
    const { silentLogin, record, stored } = world
    expect(await silentLogin({ purpose: 'renew', record })).toMatchObject({ kind, error: { code } })
    expect(await stored()).toMatchObject({ hintRefused: true, silentLoginFailed: { times: 1 } })
    expect(await silentLogin({ purpose: 'check', record: await stored() })).toMatchObject({
      error: { code: 'timeout' },
    })
    expect(world.opened).toHaveLength(3)
  })
})

describe('why nothing came back (SI-04)', () => {
  const messageAfter = async (frame: Behaviour['frame']) => {
    const { silentLogin, open } = await createWorld()
    open('a', { frame })
    const outcome = await silentLogin({ purpose: 'check' })
    expect(outcome).toMatchObject({ kind: 'failed', error: { code: 'timeout' } })
    return 'error' in outcome ? outcome.error.message : ''
  }
  /** The frame has left for the server. */
  const leaving = async (more: Partial<FrameEnd>) => {
    const { silentLogin, open, transactions } = await createWorld()
    open('a', {
      frame: async ({ url }) => {
        await transactions.depart(new URL(url).searchParams.get('ticket'), ['check'])
        return { end: 'timeout', loaded: true, isolated: false, ...more }
      },
    })
    const outcome = await silentLogin({ purpose: 'check' })
    return 'error' in outcome ? outcome.error.message : ''
  }

  test('the frame never got to the worker: something in the page stopped it', async () => {
    expect(await messageAfter(async () => 'timeout')).toMatch(/ad blocker.*Content-Security-Policy/)
  })

  test('the server did not answer', async () => {
    expect(await leaving({ loaded: false })).toMatch(/did not answer in a hidden frame within 10 s/)
  })

  test('the page is cross-origin isolated, and the server does not know', async () => {
    expect(await leaving({ isolated: true })).toContain('Cross-Origin-Resource-Policy')
  })

  test('the server showed something: an error page, or that it forbids frames', async () => {
    expect(await leaving({})).toMatch(/its log says why.*X-Frame-Options.*ad blocker/)
  })

  test('the page was frozen, so the next one is asked (SI-06)', async () => {
    const { browser, silentLogin, open, opened, answering } = await createWorld({ limit: 5_000 })
    open('a', { focused: true })
    open('b', { frame: answering('signed-in') })
    const outcome = silentLogin({ purpose: 'check' })
    await vi.waitFor(() => expect(opened).toHaveLength(1))
    await browser.pass(6_000)
    expect((await outcome).kind).toBe('signed-in')
    expect(opened.map(({ page }) => page)).toEqual(['a', 'b'])
  })
})

describe('after three frames in a row that brought nothing (SI-09)', () => {
  const minute = 60_000
  const failThrice = async (frame: Behaviour['frame'] = async () => 'timeout') => {
    const world = await createWorld()
    world.open('a', { frame })
    const current = async () => (await world.store.read()) as ActiveRecord
    const renew = async () => world.silentLogin({ purpose: 'renew', record: await current() })
    const first = await renew()
    await renew()
    await renew()
    expect(world.opened).toHaveLength(3)
    return { ...world, current, renew, first }
  }

  test('a renewal opens none for five minutes, in any worker', async () => {
    const { browser, renew, opened } = await failThrice()
    await browser.pass(5 * minute - 1)
    expect(await renew()).toMatchObject({
      kind: 'failed',
      error: { code: 'silent_login_paused', transient: true },
    })
    expect(opened).toHaveLength(3)
    await browser.pass(1)
    expect(await renew()).toMatchObject({ kind: 'failed', error: { code: 'timeout' } })
    expect(opened).toHaveLength(4)
    // That was one more of them, so the five minutes begin anew.
    expect(await renew()).toMatchObject({ error: { code: 'silent_login_paused' } })
  })

  test('so it is where the server said no each time', async () => {
    const { current, renew } = await failThrice()
    const no = await createWorld()
    no.open('a', { frame: no.answering(errorOf('login_required')) })
    const record = { ...(await current()), silentLoginFailed: undefined }
    expect(await no.silentLogin({ purpose: 'renew', record })).toMatchObject({ kind: 'refused' })
    expect(await no.store.read()).toMatchObject({ silentLoginFailed: { times: 1 } })
    expect(await renew()).toMatchObject({ error: { code: 'silent_login_paused' } })
  })

  test('that were met by the same silence as a refresh, the next one still comes before it (RF-07)', async () => {
    const { browser, server, config, signIn, createWorker } = createUnitWorld()
    const worker = createWorker()
    const tried: string[] = []
    let isDown = true
    const openFrame: PageCalls['openFrame'] = async ({ url }) => {
      tried.push('frame')
      if (isDown) return { end: 'timeout', loaded: true, isolated: false }
      const ticket = new URL(url).searchParams.get('ticket')
      const departure = await worker.transactions.depart(ticket, ['silent'])
      const { state = '', transaction } = departure ?? {}
      const tokens = { accessToken: 'from-the-frame', issuedAt: browser.now() }
      await worker.session.changeOwn('session-1', (current) => withTokens(current, tokens))
      await worker.transactions.finish(state, transaction!, 'signed-in')
      return { end: 'done', loaded: true, isolated: false }
    }
    const probe = () => ({ able: true, visible: true })
    browser.pages.push(fakePage({ calls: { probe, openFrame } }))
    const { renewal } = createWorker({
      fetch: async (input, init) => {
        if (String(input) === server.metadata.token_endpoint) tried.push('refresh')
        if (isDown) throw new TypeError('Failed to fetch')
        return await server.fetch(input, init)
      },
      silentLogin: createSilentLogin({
        config: { ...config, silentLoginTimeout: 10_000 },
        transactions: worker.transactions,
        session: worker.session,
        callPage: createPageBridge({ platform: worker.platform }).call,
        platform: worker.platform,
      }),
    })
    await worker.authorizationServer.refresh('a first request, for the metadata')
    await signIn({ silentLoginWorks: true, refreshSentAt: browser.now() })
    for (let round = 0; round < 5; round++) {
      await renewal.renew({ spoiled: 'access-token-0', impatient: true })
      await browser.pass(60_000)
    }
    isDown = false
    tried.length = 0
    expect(await renewal.renew({ spoiled: 'access-token-0', impatient: true })).toMatchObject({
      accessToken: 'from-the-frame',
    })
    expect(tried).toEqual(['frame'])
  })

  test('an app that asks by itself gets an answer all the same', async () => {
    const { silentLogin, current, opened } = await failThrice()
    const outcome = await silentLogin({ purpose: 'check', record: await current() })
    expect(outcome).toMatchObject({ error: { code: 'timeout' } })
    expect(opened).toHaveLength(4)
    expect(await current()).toMatchObject({ silentLoginFailed: { times: 3 } })
  })

  test('a clock that is set back does not make the rest longer', async () => {
    const { browser, renew, opened } = await failThrice()
    browser.setClock(-60 * minute)
    await renew()
    expect(opened).toHaveLength(4)
  })

  test('is not after no page was open, nor offline', async () => {
    const world = await createWorld()
    const { record } = world
    for (const online of [true, false, true, false, true, false]) {
      world.browser.online = online
      await world.silentLogin({ purpose: 'renew', record })
    }
    expect(await world.store.read()).not.toHaveProperty('silentLoginFailed')
  })
})

describe('a silent login of a session that was signed in with params', () => {
  test.each(['renew', 'check'] as const)('asks for the same again (%s)', async (purpose) => {
    const { silentLogin, session, record, open, browser, store } = await createWorld()
    const params = { organization: 'org_abc' }
    const shaped = await session.changeOwn(record.session, (current) => ({ ...current, params }))
    open('page', { frame: async () => 'blocked' })
    const outcome = silentLogin({ purpose, record: shaped as ActiveRecord })
    await browser.pass(1_000)
    await outcome
    expect((await store.listTransactions()).map(([, entry]) => entry)).toMatchObject([{ params }])
  })
})

describe('with silentLogin: false', () => {
  test('no frame is opened, no page is asked, and nothing is counted', async () => {
    const { silentLogin, record, open, probed, session } = await createWorld({ enabled: false })
    open('page')
    for (const purpose of ['renew', 'check'] as const) {
      expect(await silentLogin({ purpose, record })).toMatchObject({
        kind: 'failed',
        error: { code: 'silent_login_off' },
      })
    }
    expect(probed).toEqual([])
    expect(await session.readAgain()).toEqual(record)
  })

  test('the reason is still the network where there is none', async () => {
    const { silentLogin, record, browser } = await createWorld({ enabled: false })
    browser.online = false
    const outcome = await silentLogin({ purpose: 'renew', record })
    expect(outcome).toMatchObject({ error: { code: 'offline' } })
  })
})
