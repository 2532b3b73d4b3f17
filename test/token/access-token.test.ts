import { describe, expect, test } from 'vitest'
import { interactionCodes, TokenError } from '../../src/shared/errors.js'
import { withTokens } from '../../sw/session/active-record.js'
import type { ActiveRecord, SessionRecord } from '../../sw/session/records.js'
import { createRenewal } from '../../sw/token/renewal.js'
import type { SilentLogin, SilentLoginRequest } from '../../sw/token/silent-login.js'
import { json } from '../support/fake-authorization-server.js'
import { fakePage, noNetwork, settle } from '../support/fake-platform.js'
import { createUnitWorld, type UnitWorld, type WorldOptions } from '../support/worker-parts.js'

const hour = 3_600_000

const createWorld = async ({
  record,
  silentLogin,
  ...options
}: WorldOptions & { record?: Partial<ActiveRecord>; silentLogin?: SilentLogin } = {}) => {
  const world = createUnitWorld(options)
  const worker = world.createWorker({ silentLogin })
  const before = await world.signIn(record)
  const kept: Promise<unknown>[] = []
  const get = (canWait = true, { accessToken } = worker) =>
    accessToken.get({ keepAlive: (work) => void kept.push(work), canWait })
  const stored = async () => (await worker.store.read()) as ActiveRecord
  return { ...world, ...worker, before, kept, get, stored }
}

/** A silent login with this end; it writes down what it was asked for. */
const silently = (
  outcome: { kind: 'superseded' } | { kind: 'refused' | 'failed'; error: TokenError },
) => {
  const asked: SilentLoginRequest[] = []
  const silentLogin: SilentLogin = async (request) => {
    asked.push(request)
    return outcome
  }
  return { asked, silentLogin }
}
const refused = { kind: 'refused', error: new TokenError('login_required', 'No.') } as const
const failed = { kind: 'failed', error: new TokenError('no_page', 'No page.') } as const

const invalidGrant = () => json({ error: 'invalid_grant' }, 400)
const noAnswer = () => Promise.reject(new TypeError('Failed to fetch'))
const down = () => new Response('', { status: 503 })

describe('a token', () => {
  test('is given from memory at once, and from the disk after a restart', async () => {
    const { accessToken, get, createWorker } = await createWorld()
    expect(accessToken.peek()).toBeUndefined()
    const token = { kind: 'token', accessToken: 'access-token-0', owner: 'session-1' }
    expect(await get()).toEqual(token)
    expect(accessToken.peek()).toEqual(token)
    const second = createWorker()
    expect(second.accessToken.peek()).toBeUndefined()
    expect(await get(true, second)).toEqual(token)
  })

  test('is not given where nobody is signed in, or no longer', async () => {
    const { createWorker } = createUnitWorld()
    const { accessToken } = createWorker()
    expect(await accessToken.get({ keepAlive: () => {}, canWait: true })).toEqual({
      kind: 'signed-out',
    })
    const { get, session } = await createWorld()
    await session.end('logout')
    expect(await get()).toEqual({ kind: 'signed-out', reload: true })
    expect(await session.readAgain()).toMatchObject({ status: 'ended' })
  })

  test('is looked up again after a second without events, when memory may be behind', async () => {
    const { browser, accessToken, get } = await createWorld()
    await get()
    await browser.pass(1000)
    expect(accessToken.peek()).toBeDefined()
    await browser.pass(1001)
    expect(accessToken.peek()).toBeUndefined()
  })

  test('is no longer given from memory once another worker has changed it', async () => {
    const { accessToken, get, createWorker } = await createWorld()
    await get()
    await createWorker().session.end('logout')
    await settle()
    expect(accessToken.peek()).toBeUndefined()
    expect(await get()).toEqual({ kind: 'signed-out', reload: true })
  })

  test('of an unknown lifetime is used until an API refuses it (TK-05)', async () => {
    const { browser, get, server } = await createWorld({
      record: { accessTokenExpiresAt: undefined },
    })
    browser.setClock(1000 * hour)
    expect(await get()).toHaveProperty('accessToken', 'access-token-0')
    expect(server.tokenRequests()).toEqual([])
  })
})

describe('a token near its end (RF-13, RF-14)', () => {
  /** What becomes of a request at each of these seconds of a token's life. */
  const fates = async (expiresIn: number, at: number[], leeway?: number) => {
    const { browser, get, server, signIn, kept } = await createWorld({
      options: leeway === undefined ? {} : { leeway },
      server: { expiresIn },
    })
    const seen: string[] = []
    for (const second of at) {
      const now = browser.now()
      await signIn({ accessTokenExpiresAt: now + expiresIn * 1000 })
      const count = server.tokenRequests().length
      browser.setClock(second * 1000)
      const result = await get()
      await Promise.all(kept)
      const isOld = result.kind === 'token' && result.accessToken === 'access-token-0'
      const renewed = server.tokenRequests().length > count
      seen.push(!renewed ? 'fresh' : isOld ? 'ageing' : 'dead')
    }
    return seen
  }

  test('is renewed in the background a minute before, and waited for after it', async () => {
    expect(await fates(3600, [0, 3539, 3540.1, 3599, 3600, 9999])).toEqual([
      ...['fresh', 'fresh', 'ageing', 'ageing', 'dead', 'dead'],
    ])
  })

  test('is renewed as early as the option leeway says', async () => {
    expect(await fates(3600, [2990, 3011, 3600], 600)).toEqual(['fresh', 'ageing', 'dead'])
    expect(await fates(3600, [3599.9, 3600], 0)).toEqual(['fresh', 'dead'])
  })

  test('is not renewed before half its life is over, however short that is', async () => {
    expect(await fates(30, [0, 14, 15.1, 30], 60)).toEqual(['fresh', 'fresh', 'ageing', 'dead'])
    expect(await fates(29, [14, 14.6, 29], 60)).toEqual(['fresh', 'ageing', 'dead'])
  })

  test('is not renewed for 5 s, however short it lives: no loop', async () => {
    expect(await fates(5, [0, 2.6, 4.9, 5, 6], 60)).toEqual([
      ...['fresh', 'fresh', 'fresh', 'dead', 'dead'],
    ])
    expect(await fates(1, [0, 1, 4.9, 5], 60)).toEqual(['fresh', 'fresh', 'fresh', 'dead'])
  })

  test.each([1, 5, 29, 30])(
    'that lives for %s s is renewed every 5 s at most',
    async (expiresIn) => {
      const { browser, get, server } = await createWorld({ server: { expiresIn } })
      browser.setClock(hour)
      const count = 60
      for (let second = 0; second < count; second++) {
        expect((await get()).kind).toBe('token')
        browser.setClock(1000)
      }
      expect(server.tokenRequests().length).toBeLessThanOrEqual(count / 5)
      expect(server.tokenRequests().length).toBeGreaterThan(1)
    },
  )

  test('is given out as it is to a request that cannot wait', async () => {
    const { browser, get, server, kept } = await createWorld()
    browser.setClock(hour)
    expect(await get(false)).toHaveProperty('accessToken', 'access-token-0')
    await Promise.all(kept)
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('is renewed as work that keeps the worker alive', async () => {
    const { browser, get, kept, stored } = await createWorld()
    browser.setClock(hour - 30_000)
    await get()
    expect(kept).toHaveLength(1)
    await kept[0]
    expect((await stored()).accessToken).not.toBe('access-token-0')
  })

  test('stays in use where its renewal fails, and is not renewed again in the pause', async () => {
    const { browser, get, server, kept } = await createWorld()
    browser.setClock(hour - 30_000)
    server.answers.push(down)
    await get()
    await Promise.all(kept)
    expect(await get()).toHaveProperty('accessToken', 'access-token-0')
    await settle()
    expect(server.tokenRequests()).toHaveLength(1)
  })
})

describe('a clock that jumps', () => {
  test.each([
    ['back by half a minute', -30_000, 0],
    ['back by two minutes', -120_000, 1],
    ['back by a day', -24 * hour, 1],
    ['forward by a minute', 60_000, 0],
    ['forward by an hour', hour, 1],
    ['forward by a year', 8760 * hour, 1],
  ])('%s (by %s ms) costs %s refreshes, and no loop', async (_title, by, count) => {
    const { browser, get, server } = await createWorld()
    await get()
    browser.setClock(by)
    for (let request = 0; request < 10; request++) {
      expect((await get()).kind).toBe('token')
      browser.setClock(1000)
    }
    expect(server.tokenRequests()).toHaveLength(count)
  })

  test('back, ends a pause after failures that would last for days', async () => {
    const { browser, get, server } = await createWorld()
    browser.setClock(hour)
    browser.setClock(24 * hour)
    server.answers.push(down)
    expect((await get()).kind).toBe('unavailable')
    browser.setClock(-24 * hour)
    expect((await get()).kind).toBe('token')
  })
})

describe('one renewal', () => {
  test('serves 200 callers that wait for it, and lets more fail at once (IN-13)', async () => {
    const { browser, get } = await createWorld()
    browser.setClock(hour)
    const results = await Promise.all(Array.from({ length: 201 }, () => get()))
    const unavailable = results.filter(({ kind }) => kind === 'unavailable')
    expect(unavailable).toMatchObject([{ error: { code: 'timeout' } }])
    expect((await get()).kind).toBe('token')
  })

  test('serves 50 callers (RF-01)', async () => {
    const { browser, get, server } = await createWorld()
    browser.setClock(hour)
    const results = await Promise.all(Array.from({ length: 50 }, () => get()))
    expect(new Set(results.map((result) => JSON.stringify(result))).size).toBe(1)
    expect(results[0]?.kind).toBe('token')
    expect(server.tokenRequests()).toHaveLength(1)
    expect(browser.locks).toHaveLength(1)
  })

  test('serves workers that run side by side (RF-01)', async () => {
    const { browser, get, server, createWorker } = await createWorld()
    browser.setClock(hour)
    const workers = [createWorker(), createWorker(), createWorker()]
    const results = await Promise.all(
      Array.from({ length: 60 }, (_, index) => get(true, workers[index % 3])),
    )
    expect(new Set(results.map((result) => JSON.stringify(result))).size).toBe(1)
    expect(server.tokenRequests()).toHaveLength(1)
    expect(new Set(browser.locks).size).toBe(1)
  })

  test('serves all who were refused with the old token, in two workers (RF-15)', async () => {
    const { server, renewal, createWorker } = await createWorld()
    const second = createWorker().renewal
    const results = await Promise.all(
      [renewal, second, renewal, second].map((each) => each.renew({ spoiled: 'access-token-0' })),
    )
    expect(new Set(results.map((result) => JSON.stringify(result))).size).toBe(1)
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('is not needed where the refused token is no longer the current one (RF-15)', async () => {
    const { server, renewal } = await createWorld()
    const result = await renewal.renew({ spoiled: 'an older one' })
    expect(result).toHaveProperty('accessToken', 'access-token-0')
    expect(server.tokenRequests()).toEqual([])
  })

  test('that ends with the refused token is followed by one that does not', async () => {
    const { browser, server, renewal, get } = await createWorld()
    browser.setClock(hour)
    let release = () => {}
    server.answers.push(async (request) => {
      await new Promise<void>((resolve) => {
        release = resolve
      })
      return server.grant(request)
    })
    const first = get()
    await settle()
    // Somebody else already knows the next token, and that it is refused.
    release()
    const token = await first
    expect(token.kind).toBe('token')
    const spoiled = token.kind === 'token' ? token.accessToken : ''
    const results = await Promise.all([renewal.renew({ spoiled }), renewal.renew({ spoiled })])
    for (const result of results) expect(result).not.toHaveProperty('accessToken', spoiled)
    expect(server.tokenRequests()).toHaveLength(2)
  })

  test('waits 20 s for one of another worker, and then gives up for now (RF-01)', async () => {
    const { browser, get, platform, store, server, events } = await createWorld()
    browser.setClock(hour)
    let release = () => {}
    void platform.lock(
      `${store.name} renew`,
      new AbortController().signal,
      () => new Promise<void>((resolve) => (release = resolve)),
    )
    const result = get()
    await browser.pass(20_000)
    expect(await result).toMatchObject({ kind: 'unavailable', error: { code: 'timeout' } })
    // A lock that somebody never gives back would fail requests for ever, and nobody would know.
    expect(events).toMatchObject([{ type: 'problem', error: { code: 'timeout' } }])
    release()
    await settle()
    expect(server.tokenRequests()).toEqual([])
    expect((await get()).kind).toBe('token')
  })

  test('tells the pages that it has begun, and how it ended', async () => {
    const { browser, get, events } = await createWorld()
    browser.setClock(hour)
    await get()
    const [first, ...rest] = events
    expect(first).toMatchObject({ type: 'state', session: { state: 'renewing' } })
    expect(rest.find(({ type }) => type === 'renewed')).toBeDefined()
    expect(events.at(-1)).toMatchObject({ session: { state: 'fresh' } })
  })

  test('that fails after a while leaves the session stale, and tells the pages', async () => {
    const { browser, get, events, session, server } = await createWorld()
    browser.setClock(hour)
    server.answers.push(async () => {
      await browser.platform().wait(3_000)
      return down()
    })
    const result = get()
    await browser.pass(3_000)
    expect((await result).kind).toBe('unavailable')
    expect(events.at(-1)).toMatchObject({ type: 'state', session: { state: 'stale' } })
    expect(session.report(await session.readAgain())).toMatchObject({ session: { state: 'stale' } })
  })

  test('whose answer the disk did not take is used, and stored as soon as there is room', async () => {
    const { asked, silentLogin } = silently(failed)
    const record = { silentLoginWorks: true } as const
    const world = await createWorld({ silentLogin, record })
    const { browser, server, renewal, get, stored } = world
    browser.setClock(hour)
    const original = IDBObjectStore.prototype.put
    server.answers.push((request) => {
      IDBObjectStore.prototype.put = () => {
        throw new DOMException('full', 'QuotaExceededError')
      }
      return server.grant(request)
    })
    try {
      expect((await renewal.renew({ spoiled: 'access-token-0' })).kind).toBe('token')
      expect((await stored()).refreshSentAt).toBe(browser.now())
    } finally {
      IDBObjectStore.prototype.put = original
    }
    await browser.pass(2_000)
    expect((await get()).kind).toBe('token')
    expect(await stored()).toMatchObject({
      refreshToken: server.refreshToken(),
      refreshSentAt: undefined,
    })
    expect(server.tokenRequests()).toHaveLength(1)
    expect(asked).toEqual([])
  })

  test('that ends while the disk cannot be read has ended all the same', async () => {
    const original = IDBObjectStore.prototype.get
    const silentLogin: SilentLogin = async ({ record }) => {
      // Longer than memory is trusted.
      browser.setClock(2_000)
      IDBObjectStore.prototype.get = () => {
        throw new DOMException('broken', 'UnknownError')
      }
      return { kind: 'signed-in', record: { ...(record as ActiveRecord), accessToken: 'new' } }
    }
    const world = await createWorld({ silentLogin, record: { refreshToken: undefined } })
    const { browser, renewal, session } = world
    try {
      expect(await renewal.renew({ spoiled: 'access-token-0' })).toMatchObject({
        accessToken: 'new',
      })
    } finally {
      IDBObjectStore.prototype.get = original
    }
    expect(session.report(await session.readAgain())).toMatchObject({ session: { state: 'fresh' } })
  })
})

describe('a disk that takes nothing', () => {
  const full = () => {
    throw new DOMException('full', 'QuotaExceededError')
  }

  /** Everything that `work` does meets a full disk. */
  const onFullDisk = async (work: () => Promise<unknown>) => {
    const original = IDBObjectStore.prototype.put
    IDBObjectStore.prototype.put = full
    try {
      await work()
    } finally {
      IDBObjectStore.prototype.put = original
    }
  }
  const problems = ({ events }: Awaited<ReturnType<typeof createWorld>>) =>
    events.flatMap((event) => (event.type === 'problem' ? event.error.code : []))

  test('does not end renewing, and pages hear of it once', async () => {
    const world = await createWorld()
    const { browser, get, server, stored, before } = world
    await onFullDisk(async () => {
      for (let round = 1; round <= 3; round++) {
        browser.setClock(hour)
        expect((await get()).kind).toBe('token')
        expect(server.tokenRequests()).toHaveLength(round)
      }
      expect(await stored()).toEqual(before)
    })
    expect(problems(world)).toEqual(['storage_failed'])
    const types = world.events.map(({ type }) => type)
    expect(types.filter((type) => type === 'renewed')).toHaveLength(3)
    expect(types).not.toContain('login-required')
  })

  test('gets everything as soon as there is room, and a restart finds it', async () => {
    const { browser, get, server, stored, createWorker } = await createWorld()
    browser.setClock(hour)
    await onFullDisk(get)
    await browser.pass(2_000)
    await get()
    expect(await stored()).toMatchObject({ refreshToken: server.refreshToken() })
    browser.setClock(hour)
    expect((await get(true, createWorker())).kind).toBe('token')
    expect(server.tokenRequests()).toHaveLength(2)
  })

  test('is a pause in memory after a failure: a server that is down is not hammered', async () => {
    const { browser, get, server } = await createWorld()
    browser.setClock(hour)
    await onFullDisk(async () => {
      for (let round = 0; round < 5; round++) {
        server.answers.push(down)
        expect((await get()).kind).toBe('unavailable')
      }
    })
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('leaves a sign-out of another worker as it is', async () => {
    const { browser, get, createWorker, session } = await createWorld()
    browser.setClock(hour)
    await onFullDisk(get)
    await createWorker().session.end('logout')
    await settle()
    expect(await get()).toEqual({ kind: 'signed-out', reload: true })
    expect(await session.readAgain()).toMatchObject({ status: 'ended', reason: 'logout' })
  })

  test('gives way to the tokens of another worker, which had room', async () => {
    const { browser, get, createWorker, session, before } = await createWorld()
    browser.setClock(hour)
    await onFullDisk(get)
    await createWorker().session.changeOwn(before.session, (current) => ({
      ...current,
      accessToken: 'of another worker',
      refreshToken: 'of another worker',
    }))
    await settle()
    expect(await session.readAgain()).toMatchObject({ accessToken: 'of another worker' })
  })

  test('fails what cannot be taken back: nobody is signed out in memory alone', async () => {
    const { session } = await createWorld()
    await onFullDisk(async () => {
      await expect(session.end('logout')).rejects.toMatchObject({ code: 'storage_failed' })
    })
    expect(await session.readAgain()).toMatchObject({ status: 'active' })
  })

  test('and that cannot be read either is a result, and a problem for the pages', async () => {
    const world = await createWorld()
    world.browser.setClock(hour)
    const original = IDBObjectStore.prototype.get
    IDBObjectStore.prototype.get = full
    try {
      const result = await world.renewal.renew({ spoiled: undefined })
      expect(result).toMatchObject({ kind: 'unavailable', error: { code: 'storage_failed' } })
    } finally {
      IDBObjectStore.prototype.get = original
    }
    expect(problems(world)).toEqual(['storage_failed'])
  })
})

describe('after a failure', () => {
  test('requests fail at once in the pause, in every worker, and then it is tried again (RF-06, IN-13)', async () => {
    const { browser, get, server, createWorker } = await createWorld()
    browser.setClock(hour)
    server.answers.push(down)
    expect((await get()).kind).toBe('unavailable')
    const second = createWorker()
    await browser.pass(1_500)
    expect((await get()).kind).toBe('unavailable')
    expect((await get(true, second)).kind).toBe('unavailable')
    expect(server.tokenRequests()).toHaveLength(1)
    await browser.pass(500)
    expect((await get(true, second)).kind).toBe('token')
    expect(server.tokenRequests()).toHaveLength(2)
  })

  test('somebody who asks for it by name does not have to wait', async () => {
    const { browser, get, server, renewal } = await createWorld()
    browser.setClock(hour)
    server.answers.push(down)
    await get()
    expect((await renewal.renew({ spoiled: undefined, impatient: true })).kind).toBe('token')
  })

  test('an app that asks for it on each error does not hammer a server that is down', async () => {
    const { browser, get, server, renewal, kept } = await createWorld()
    browser.setClock(hour)
    server.options.now = browser.now
    for (let second = 0; second < 120; second++) {
      server.answers.push(down)
      kept.push(get())
      const renewed = await renewal.renew({ spoiled: 'access-token-0', impatient: true })
      expect(renewed.kind).toBe('unavailable')
      await Promise.all(kept)
      await browser.pass(1_000)
    }
    // One for each ten seconds, and those of the backoff.
    expect(server.tokenRequests().length).toBeLessThanOrEqual(12 + 7)
    expect(server.tokenRequests().length).toBeGreaterThan(12)
  })

  test('without a page, a server that wants the user is not asked by every request (RF-09)', async () => {
    const { silentLogin } = silently(failed)
    const { browser, get, server } = await createWorld({ silentLogin })
    browser.setClock(hour)
    for (let round = 0; round < 5; round++) {
      server.answers.push(() => json({ error: 'interaction_required' }, 400))
      expect((await get()).kind).toBe('unavailable')
    }
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('without a page and a refresh token, requests write nothing again and again', async () => {
    const { silentLogin } = silently(failed)
    const world = await createWorld({ silentLogin, record: { refreshToken: undefined } })
    world.browser.setClock(hour)
    for (let round = 0; round < 5; round++) await world.get()
    expect(world.browser.announcements).toEqual([])
    world.browser.pages.push(fakePage())
    for (let round = 0; round < 5; round++) await world.get()
    expect(world.browser.announcements).toHaveLength(1)
    // The next page that opens can do it at once.
    expect((await world.stored()).retry).toBeUndefined()
  })

  test('offline there is no pause: back online the next request renews (OF-05)', async () => {
    const { browser, get, server } = await createWorld()
    browser.setClock(hour)
    browser.online = false
    server.answers.push(noAnswer)
    expect(await get()).toMatchObject({ kind: 'unavailable', error: { code: 'offline' } })
    browser.online = true
    expect((await get()).kind).toBe('token')
  })
})

describe('the way to a new token', () => {
  test('is the refresh, and no silent login if that works', async () => {
    const { asked, silentLogin } = silently(failed)
    const { browser, get } = await createWorld({ silentLogin })
    browser.setClock(hour)
    expect((await get()).kind).toBe('token')
    expect(asked).toEqual([])
  })

  /** A silent login that works, and brings no refresh token. */
  const working = () => {
    const asked: SilentLoginRequest[] = []
    const world: { current?: Awaited<ReturnType<typeof createWorld>> } = {}
    const silentLogin: SilentLogin = async (request) => {
      asked.push(request)
      const { session, browser } = world.current!
      const tokens = {
        accessToken: 'silent',
        issuedAt: browser.now(),
        expiresAt: browser.now() + hour,
      }
      const record = await session.changeOwn('session-1', (current) => withTokens(current, tokens))
      return { kind: 'signed-in', record: record! }
    }
    return { asked, silentLogin, world }
  }

  test('is silent login where there is no refresh token', async () => {
    const { asked, silentLogin, world } = working()
    world.current = await createWorld({ silentLogin, record: { refreshToken: undefined } })
    world.current.browser.setClock(hour)
    expect(await world.current.get()).toHaveProperty('accessToken', 'silent')
    expect(world.current.server.tokenRequests()).toEqual([])
    expect(asked).toMatchObject([{ purpose: 'renew', record: { session: 'session-1' } }])
  })

  test('is silent login after invalid_grant (RF-08)', async () => {
    const { asked, silentLogin, world } = working()
    world.current = await createWorld({ silentLogin })
    const { browser, server, get, stored } = world.current
    browser.setClock(hour)
    server.answers.push(invalidGrant)
    expect(await get()).toHaveProperty('accessToken', 'silent')
    expect(asked).toHaveLength(1)
    expect((await stored()).refreshToken).toBeUndefined()
  })

  test('is silent login first while a refresh token has an unknown fate, where that has worked (RF-07)', async () => {
    const { asked, silentLogin, world } = working()
    const sentAt = Date.now()
    const record = { refreshSentAt: sentAt, silentLoginWorks: true } as const
    world.current = await createWorld({ silentLogin, record })
    const { browser, server, get, stored, before } = world.current
    browser.setClock(hour)
    expect(await get()).toHaveProperty('accessToken', 'silent')
    expect(asked).toHaveLength(1)
    expect(server.tokenRequests()).toEqual([])
    // It brought no refresh token, so nothing is known of the old one.
    expect(await stored()).toMatchObject({
      refreshToken: before.refreshToken,
      refreshSentAt: sentAt,
    })
  })

  test('is silent login first then also after one that has brought nothing (RF-07)', async () => {
    const { asked, silentLogin, world } = working()
    const silentLoginFailed = { times: 1, at: Date.now() }
    const record = { refreshSentAt: Date.now(), silentLoginWorks: true, silentLoginFailed } as const
    world.current = await createWorld({ silentLogin, record })
    world.current.browser.setClock(hour)
    expect(await world.current.get()).toHaveProperty('accessToken', 'silent')
    expect(asked).toHaveLength(1)
    expect(world.current.server.tokenRequests()).toEqual([])
  })

  test('is the refresh token of unknown fate where silent login has never worked (RF-07)', async () => {
    const { asked, silentLogin } = silently(failed)
    const { browser, get, server } = await createWorld({
      silentLogin,
      record: { refreshSentAt: 1 },
    })
    browser.setClock(hour)
    expect((await get()).kind).toBe('token')
    expect(asked).toEqual([])
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('is the refresh token of unknown fate as the last resort (RF-07)', async () => {
    for (const outcome of [failed, refused]) {
      const { asked, silentLogin } = silently(outcome)
      const record = { refreshSentAt: 1, silentLoginWorks: true } as const
      const { browser, get, server, stored } = await createWorld({ silentLogin, record })
      browser.setClock(hour)
      expect((await get()).kind).toBe('token')
      expect(asked).toHaveLength(1)
      expect(server.tokenRequests()).toHaveLength(1)
      expect((await stored()).refreshSentAt).toBeUndefined()
    }
  })

  test('is the refresh alone offline: no frame can be opened', async () => {
    const { asked, silentLogin } = silently(failed)
    const record = { refreshSentAt: 1, silentLoginWorks: true } as const
    const { browser, get, server } = await createWorld({ silentLogin, record })
    browser.setClock(hour)
    browser.online = false
    server.answers.push(noAnswer)
    expect((await get()).kind).toBe('unavailable')
    expect(asked).toEqual([])
  })

  test('is taken up where a worker was stopped in the middle of a refresh (RF-05, RF-07)', async () => {
    const { browser, get, server, createWorker, stored } = await createWorld()
    browser.setClock(hour)
    server.answers.push(() => new Promise(() => {}))
    void get()
    await settle()
    expect((await stored()).refreshSentAt).toBe(browser.now())
    // The lock of a stopped worker is released; here it is another browser's lock.
    const restarted = createWorker()
    const lock = browser.platform().lock
    const platform = {
      ...restarted.platform,
      lock: ((name, ...rest) => lock(`x ${name}`, ...rest)) as typeof lock,
    }
    const again = createRenewal({
      config: { leeway: 0, rotationGrace: 0 },
      store: { name: 'another' },
      session: restarted.session,
      refresh: restarted.refresh,
      silentLogin: silently(failed).silentLogin,
      platform,
    })
    const { accessToken: spoiled } = await stored()
    expect((await again.renew({ spoiled })).kind).toBe('token')
    expect((await stored()).refreshSentAt).toBeUndefined()
  })
})

describe('with silentLogin: false', () => {
  const off = {
    kind: 'failed',
    error: new TokenError('silent_login_off', 'Off.'),
  } as const

  test('a dead refresh token leads to login-required at once, with the reason of the server', async () => {
    const { silentLogin } = silently(off)
    const { browser, get, server, events, stored } = await createWorld({ silentLogin })
    browser.setClock(hour)
    server.answers.push(invalidGrant)
    expect(await get()).toMatchObject({ kind: 'unavailable', error: { code: 'invalid_grant' } })
    expect(events.at(-1)).toMatchObject({
      type: 'login-required',
      error: { code: 'invalid_grant' },
      session: { state: 'stale' },
    })
    expect(await stored()).toMatchObject({ status: 'active', loginRequired: true })
  })

  test('and no refresh token, pages hear that frames are off', async () => {
    const { silentLogin } = silently(off)
    const record = { refreshToken: undefined }
    const { browser, get, events } = await createWorld({ silentLogin, record })
    browser.setClock(hour)
    expect(await get()).toMatchObject({ kind: 'unavailable' })
    expect(events.at(-1)).toMatchObject({
      type: 'login-required',
      error: { code: 'silent_login_off' },
    })
  })
})

describe('the end of a session', () => {
  const expired = (world: UnitWorld) => world.browser.setClock(hour)

  test('comes only where the server knows no user and no refresh token is left (RF-08)', async () => {
    const { asked, silentLogin } = silently(refused)
    const world = await createWorld({ silentLogin })
    expired(world)
    world.server.answers.push(invalidGrant)
    expect(await world.get()).toEqual({ kind: 'signed-out', reload: true })
    expect(await world.store.read()).toMatchObject({ status: 'ended', reason: 'ended' })
    expect(asked).toHaveLength(1)
    const ends = world.events.filter(({ type }) => type === 'signed-out')
    expect(ends).toEqual([{ type: 'signed-out', reason: 'ended', code: 'login_required' }])
  })

  test.each(interactionCodes)(
    'brings %s to the app, with the event, with the session and with renew()',
    async (code) => {
      const error = new TokenError(code, 'No.')
      const world = await createWorld({
        silentLogin: silently({ kind: 'refused', error }).silentLogin,
      })
      world.server.answers.push(invalidGrant)
      const calls = world.pageCalls('page-1', () => {})
      await expect(calls.renew()).rejects.toMatchObject({ code })
      expect(world.events).toContainEqual({ type: 'signed-out', reason: 'ended', code })
      expect(await calls.session()).toEqual({ ended: 'ended', code })
      // A worker that is stopped before it answers is asked again.
      const next = world.createWorker().pageCalls('page-1', () => {})
      await expect(next.renew()).rejects.toMatchObject({ code })
      await calls.logout({ local: true })
      await expect(calls.renew()).rejects.toMatchObject({ code: 'signed_out' })
      expect(await calls.session()).toEqual({ ended: 'logout' })
    },
  )

  test('is told once, however many requests and workers meet it (SE-12)', async () => {
    const { silentLogin } = silently(refused)
    const world = await createWorld({ silentLogin })
    const second = world.createWorker({ silentLogin })
    expired(world)
    world.server.answers.push(invalidGrant)
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) => world.get(true, index % 2 ? second : undefined)),
    )
    expect(new Set(results.map(({ kind }) => kind))).toEqual(new Set(['signed-out']))
    const ends = [...world.events, ...second.events].filter(({ type }) => type === 'signed-out')
    expect(ends).toHaveLength(1)
  })

  test.each<
    [
      string,
      SessionRecord['status'],
      () => Response | Promise<Response>,
      typeof refused | typeof failed,
    ]
  >([
    ['invalid_grant, and no page for a silent login', 'active', invalidGrant, failed],
    [
      'a 401 of the token endpoint, and a refused silent login',
      'active',
      () => json({}, 401),
      refused,
    ],
    [
      'mfa_required, and a refused silent login',
      'active',
      () => json({ error: 'mfa_required' }, 400),
      refused,
    ],
    ['no answer', 'active', noAnswer, refused],
    ['a server that is down', 'active', down, refused],
    ['a wrong client', 'active', () => json({ error: 'invalid_client' }, 400), refused],
    ['a captive portal', 'active', () => new Response('<html>'), refused],
  ])('does not come after %s', async (_title, status, answer, outcome) => {
    const { silentLogin } = silently(outcome)
    const world = await createWorld({ silentLogin })
    expired(world)
    world.server.answers.push(answer)
    expect((await world.get()).kind).toBe('unavailable')
    expect((await world.store.read())?.status).toBe(status)
    expect(world.events.some(({ type }) => type === 'signed-out')).toBe(false)
  })

  test('does not come: a sign-in is asked for instead, once (SI-05)', async () => {
    const { silentLogin } = silently(failed)
    const world = await createWorld({ silentLogin, record: { refreshToken: undefined } })
    expired(world)
    world.browser.pages.push(fakePage())
    for (let round = 0; round < 3; round++) {
      expect((await world.get()).kind).toBe('unavailable')
      world.browser.setClock(hour)
    }
    const asks = world.events.filter(({ type }) => type === 'login-required')
    expect(asks).toMatchObject([{ error: { code: 'no_page' }, session: { state: 'stale' } }])
  })

  test('a dead refresh token, found while no page is open, keeps no page from its own frame', async () => {
    const { silentLogin } = silently(failed)
    const world = await createWorld({ silentLogin })
    expired(world)
    world.server.answers.push(invalidGrant)
    await world.get()
    // What the next page learns when it opens.
    const { session, loginRequired } = world.session.report(await world.stored())
    expect([session?.state, loginRequired]).toEqual(['stale', undefined])
    expect((await world.stored()).retry).toBeUndefined()
  })

  test('does not come offline, nor is a sign-in asked for; that comes when there is a reason (OF-01)', async () => {
    const outcome: { value: Awaited<ReturnType<SilentLogin>> } = {
      value: { kind: 'failed', error: new TokenError('offline', 'No network.') },
    }
    const world = await createWorld({
      silentLogin: async () => outcome.value,
      record: { refreshToken: undefined },
    })
    expired(world)
    expect(await world.get()).toMatchObject({ error: { code: 'offline' } })
    expect(world.events.map(({ type }) => type)).toEqual(['state', 'state'])
    outcome.value = { kind: 'failed', error: new TokenError('silent_login_blocked', 'Blocked.') }
    await world.get()
    expect(world.events.at(-1)).toMatchObject({
      type: 'login-required',
      error: { code: 'silent_login_blocked' },
    })
  })

  test('names what the token endpoint wanted, where that says more than the silent login', async () => {
    const { silentLogin } = silently(refused)
    const world = await createWorld({ silentLogin })
    expired(world)
    world.server.answers.push(() => json({ error: 'mfa_required' }, 400))
    expect(await world.get()).toMatchObject({ error: { code: 'mfa_required' } })
  })

  test('by somebody else while a request waits gives no token to it', async () => {
    const world = await createWorld()
    expired(world)
    world.server.answers.push(async (request) => {
      await world.session.end('logout')
      return world.server.grant(request)
    })
    expect(await world.get()).toEqual({ kind: 'signed-out', reload: true })
  })

  test('because the server knows another user fails the request, it is not sent bare (SI-07)', async () => {
    const world = await createWorld()
    expired(world)
    world.server.answers.push(async (request) => {
      await world.session.end('user_changed')
      return world.server.grant(request)
    })
    expect(await world.get()).toMatchObject({
      kind: 'unavailable',
      error: { code: 'user_changed' },
    })
  })

  test('and a new one of another user fails the request of the old one (SI-07)', async () => {
    const world = await createWorld()
    expired(world)
    world.server.answers.push(async (request) => {
      await world.session.change(() => ({ ...world.before, session: 'session-2', subject: 'bob' }))
      return world.server.grant(request)
    })
    expect(await world.get()).toMatchObject({
      kind: 'unavailable',
      error: { code: 'user_changed' },
    })
  })
})

test('after a change of users a token comes with that warning (IN-16)', async () => {
  const { get, accessToken, session, before } = await createWorld()
  expect(await get()).toMatchObject({ kind: 'token', reload: undefined })
  await session.changeOwn(before.session, (record) => ({ ...record, usersChanged: true }))
  expect(await get()).toMatchObject({ kind: 'token', reload: true })
  expect(accessToken.peek()).toMatchObject({ kind: 'token', reload: true })
})

test('without network nothing is sent bare, and nothing is lost (OF-03)', async () => {
  const { browser, get, createWorker, store, before } = await createWorld()
  browser.setClock(hour)
  browser.online = false
  const offline = createWorker({ fetch: noNetwork })
  expect(await get(true, offline)).toMatchObject({ kind: 'unavailable' })
  expect(await store.read()).toMatchObject({ refreshToken: before.refreshToken })
})

describe('back online (OF-05)', () => {
  const expired = async (more: Parameters<typeof createWorld>[0] = {}) => {
    const world = await createWorld(more)
    await world.get()
    world.browser.setClock(hour)
    world.browser.random = 0.5
    return world
  }

  test('an expired token is renewed once, after a delay by chance of up to three seconds', async () => {
    const { browser, server, accessToken, stored, before } = await expired()
    const all = [1, 2, 3, 4, 5].map(() => accessToken.backOnline())
    await browser.pass(1_499)
    expect(server.tokenRequests()).toEqual([])
    await browser.pass(1)
    await Promise.all(all)
    expect(server.tokenRequests()).toHaveLength(1)
    expect((await stored()).accessToken).not.toBe(before.accessToken)
  })

  test('a request that comes in that time waits for it, and causes no other', async () => {
    const { browser, server, accessToken, get } = await expired()
    const renewal = accessToken.backOnline()
    await settle()
    const result = get()
    await browser.pass(1_500)
    await renewal
    expect((await result).kind).toBe('token')
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('nothing is done for a token that is good, nor where nobody is signed in', async () => {
    const { browser, server, accessToken, session } = await createWorld()
    await accessToken.backOnline()
    browser.setClock(hour)
    await session.end('logout')
    await accessToken.backOnline()
    expect(server.requests).toEqual([])
    expect(browser.timers()).toBe(0)
  })

  test('another worker may have done it in that time', async () => {
    const { browser, server, accessToken, createWorker, before } = await expired()
    const renewal = accessToken.backOnline()
    await settle()
    await createWorker().renewal.renew({ spoiled: before.accessToken })
    await browser.pass(3_000)
    await renewal
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('a pause after failures is over, since they may have been for want of a network', async () => {
    const { browser, server, accessToken, get } = await expired()
    server.answers.push(noAnswer)
    browser.random = 1
    expect((await get()).kind).toBe('unavailable')
    expect((await get()).kind).toBe('unavailable')
    expect(server.tokenRequests()).toHaveLength(1)
    browser.random = 0
    await accessToken.backOnline()
    expect(server.tokenRequests()).toHaveLength(2)
    expect((await get()).kind).toBe('token')
  })

  test('a pause is over also where a request has come at the same moment, and met it', async () => {
    const { browser, server, accessToken, get } = await expired()
    server.answers.push(noAnswer)
    browser.random = 1
    expect((await get()).kind).toBe('unavailable')
    browser.random = 0
    // The app listens to the same event, and asks for its data anew.
    const [request] = await Promise.all([get(), accessToken.backOnline()])
    expect(request.kind).toBe('unavailable')
    expect((await get()).kind).toBe('token')
    expect(server.tokenRequests()).toHaveLength(2)
  })

  test('a pause that the server has asked for is kept, also by renew() (RF-06)', async () => {
    const { browser, server, accessToken, renewal, get, stored } = await expired()
    server.answers.push(() => json({}, 429, { 'retry-after': '100' }))
    expect((await get()).kind).toBe('unavailable')
    browser.random = 0
    await accessToken.backOnline()
    expect(
      await renewal.renew({ spoiled: (await stored()).accessToken, impatient: true }),
    ).toMatchObject({
      kind: 'unavailable',
    })
    expect(server.tokenRequests()).toHaveLength(1)
    await browser.pass(103_000)
    expect((await get()).kind).toBe('token')
  })
})

describe('a refresh token of unknown fate', () => {
  const world = (age: number, rotationGrace: number) => {
    const { asked, silentLogin } = silently(failed)
    const record = { refreshSentAt: Date.now() - age * 1000, silentLoginWorks: true } as const
    return createWorld({ silentLogin, record, options: { rotationGrace } }).then((made) => ({
      ...made,
      asked,
    }))
  }

  test.each([
    [29, 30, 0],
    [31, 30, 1],
    [0, 0, 1],
    // The clock has been set back since.
    [-100, 30, 1],
  ])(
    '%s s old, with a grace of %s s: %s frames before it is sent again (RF-07)',
    async (age, grace, frames) => {
      const { get, asked, server, renewal, before } = await world(age, grace)
      await get()
      expect((await renewal.renew({ spoiled: before.accessToken })).kind).toBe('token')
      expect(asked).toHaveLength(frames)
      expect(server.tokenRequests()).toHaveLength(1)
    },
  )

  test('keeps the time at which it was first sent, however often that fails (RF-05, RF-07)', async () => {
    const { browser, server, renewal, before, stored } = await createWorld()
    const first = browser.now()
    for (const answer of [noAnswer, down, noAnswer]) {
      server.answers.push(answer)
      await renewal.renew({ spoiled: before.accessToken })
      expect((await stored()).refreshSentAt).toBe(first)
      await browser.pass(20_000)
    }
    await renewal.renew({ spoiled: before.accessToken })
    expect((await stored()).refreshSentAt).toBeUndefined()
  })

  test.each([500, 502, 504, 520])('is what a %s leaves (RF-07)', async (status) => {
    const { browser, server, renewal, before, stored } = await createWorld()
    server.answers.push(() => new Response('', { status }))
    expect((await renewal.renew({ spoiled: before.accessToken })).kind).toBe('unavailable')
    expect((await stored()).refreshSentAt).toBe(browser.now())
  })
})

describe('a pause and a clock that jumps', () => {
  test.each([
    ['ahead', hour],
    ['back', -hour],
  ])('%s during a pause does not make it longer than it is', async (_title, by) => {
    const { browser, server, get, renewal } = await createWorld()
    await get()
    browser.setClock(hour)
    server.answers.push(down)
    expect((await get()).kind).toBe('unavailable')
    browser.setClock(by)
    // Back to where the token had time left, it is not asked for; so ask for it.
    await renewal.renew({ spoiled: 'access-token-0' })
    expect(server.tokenRequests()).toHaveLength(2)
  })
})

describe('a token that an API refuses, and no other is to be had', () => {
  const stateOf = async ({ session }: Awaited<ReturnType<typeof createWorld>>) =>
    session.report(await session.readAgain()).session?.state

  /** The API refuses the token while the server is down. */
  const refusedWhileDown = async (more: Parameters<typeof createWorld>[0] = {}) => {
    const world = await createWorld(more)
    await world.get()
    await world.browser.pass(6_000)
    world.server.answers.push(down)
    const spoiled = 'access-token-0'
    expect((await world.renewal.renew({ spoiled, refused: true })).kind).toBe('unavailable')
    return world
  }

  test('shows as stale to pages, although its time is not over', async () => {
    const world = await refusedWhileDown()
    expect(await stateOf(world)).toBe('stale')
    expect(world.events.at(-1)).toMatchObject({ type: 'state', session: { state: 'stale' } })
  })

  test('shows as stale in other workers and after a restart', async () => {
    const { createWorker } = await refusedWhileDown()
    const { session } = createWorker()
    expect(session.report(await session.readAgain())).toMatchObject({ session: { state: 'stale' } })
  })

  test('shows as stale although no renewal is tried in the pause, and is told once', async () => {
    const world = await createWorld()
    const { browser, server, renewal, events } = world
    await browser.pass(6_000)
    server.answers.push(down)
    await renewal.renew({ spoiled: 'access-token-0' })
    expect(await stateOf(world)).toBe('fresh')
    events.length = 0
    for (let round = 0; round < 3; round++) {
      await renewal.renew({ spoiled: 'access-token-0', refused: true })
    }
    expect(events).toMatchObject([{ type: 'state', session: { state: 'stale' } }])
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('shows as stale where its renewal was begun by its time', async () => {
    const world = await createWorld()
    const { browser, server, renewal } = world
    await browser.pass(6_000)
    server.answers.push(down)
    const spoiled = 'access-token-0'
    await Promise.all([renewal.renew({ spoiled }), renewal.renew({ spoiled, refused: true })])
    expect(await stateOf(world)).toBe('stale')
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('is stale in the login-required that follows', async () => {
    const { silentLogin } = silently(failed)
    const world = await createWorld({ silentLogin, record: { refreshToken: undefined } })
    await world.renewal.renew({ spoiled: 'access-token-0', refused: true })
    expect(world.events.at(-1)).toMatchObject({
      type: 'login-required',
      session: { state: 'stale' },
    })
  })

  test('still goes to other APIs, and each request is a reason to renew it', async () => {
    const { get, server, kept, browser, stored } = await refusedWhileDown()
    expect(await get()).toHaveProperty('accessToken', 'access-token-0')
    expect(server.tokenRequests()).toHaveLength(1)
    await browser.pass(2_000)
    expect(await get()).toHaveProperty('accessToken', 'access-token-0')
    await Promise.all(kept)
    expect((await stored()).accessToken).not.toBe('access-token-0')
  })

  test('is forgotten with the next token, also by a worker that does not know of it', async () => {
    const world = await refusedWhileDown()
    const { session, before } = world
    await session.changeOwn(before.session, (current) => ({
      ...current,
      accessToken: 'from an older version',
      accessTokenIssuedAt: current.accessTokenIssuedAt + 1,
    }))
    expect(await stateOf(world)).toBe('fresh')
  })

  test('costs nothing where the renewal works', async () => {
    const world = await createWorld()
    await world.renewal.renew({ spoiled: 'access-token-0', refused: true })
    expect(await stateOf(world)).toBe('fresh')
  })
})

describe('a refresh token that is refused in other words than invalid_grant', () => {
  const minutesAgo = (minutes: number) => Date.now() - minutes * 60_000
  const notFound = () => new Response('Not Found', { status: 404 })
  const longRefused = {
    retry: {
      failures: 3,
      notBefore: 0,
      refused: { first: minutesAgo(5), last: minutesAgo(1) },
    },
  }
  const signsIn = (tokens: { refreshToken?: string }): SilentLogin => {
    return async ({ record }) => {
      const { session, browser } = world.current!
      const more = { accessToken: 'silent', issuedAt: browser.now(), ...tokens }
      const after = await session.changeOwn((record as ActiveRecord).session, (current) =>
        withTokens(current, more),
      )
      return { kind: 'signed-in', record: after as ActiveRecord }
    }
  }
  const world: { current?: Awaited<ReturnType<typeof createWorld>> } = {}

  test('goes, once a hidden frame has signed in: the next token comes without delay', async () => {
    world.current = await createWorld({ silentLogin: signsIn({}), record: longRefused })
    const { server, renewal, stored } = world.current
    server.answers.push(notFound)
    expect(await renewal.renew({ spoiled: 'access-token-0' })).toHaveProperty(
      'accessToken',
      'silent',
    )
    expect((await stored()).refreshToken).toBeUndefined()
  })

  test('stays where a sign-in comes after a single refusal', async () => {
    const record = { retry: { ...longRefused.retry, refused: { first: 1, last: 1 } } }
    world.current = await createWorld({ silentLogin: signsIn({}), record })
    const { stored, before } = world.current
    await signsIn({})({ purpose: 'renew', record: before })
    expect((await stored()).refreshToken).toBe(before.refreshToken)
  })

  test('proves nothing by a clock that was set back, nor by one that was not', async () => {
    const ahead = Date.now() + hour
    const record = { retry: { failures: 1, notBefore: 0, refused: { first: ahead, last: ahead } } }
    const { server, renewal, browser, stored } = await createWorld({ record })
    server.answers.push(notFound)
    expect((await renewal.renew({ spoiled: 'access-token-0' })).kind).toBe('unavailable')
    const now = browser.now()
    expect((await stored()).retry?.refused).toEqual({ first: now, last: now })
  })

  test('is as good as before once it is taken, also where the server does not rotate', async () => {
    const options = { server: { rotate: false }, record: longRefused }
    const { renewal, stored, before } = await createWorld(options)
    await renewal.renew({ spoiled: 'access-token-0' })
    expect(await stored()).toMatchObject({ retry: undefined, refreshToken: before.refreshToken })
  })

  test('offers the user a sign-in in a day of requests, and asks for one once', async () => {
    const { asked, silentLogin } = silently(failed)
    const made = await createWorld({ silentLogin })
    const { browser, server, get, events, before, stored } = made
    browser.pages.push(fakePage())
    browser.setClock(hour)
    for (let round = 0; round < 144; round++) {
      server.answers.push(notFound)
      await get()
      browser.setClock(600_000)
    }
    expect(asked.length).toBeGreaterThan(1)
    const told = events.map(({ type }) => type).filter((type) => type !== 'state')
    expect(told).toEqual(['problem', 'login-required'])
    expect(await stored()).toMatchObject({ status: 'active', refreshToken: before.refreshToken })
  })
})
