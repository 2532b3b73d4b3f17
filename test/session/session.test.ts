import { describe, expect, test, vi } from 'vitest'
import { TokenError } from '../../src/shared/errors.js'
import { hasLiveToken, withTokens } from '../../sw/session/active-record.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { createSession } from '../../sw/session/session.js'
import { settle } from '../support/fake-platform.js'
import { activeRecord, createUnitWorld } from '../support/worker-parts.js'

const hour = 3_600_000

const createWorld = async (record: Partial<ActiveRecord> = {}) => {
  const world = createUnitWorld()
  const before = await world.signIn(record)
  return { ...world, ...world.createWorker(), before }
}

describe('what a page may know of a session', () => {
  test('is claims, scope, state and times, and no token (BR-04)', async () => {
    const { session, browser } = await createWorld({
      idToken: 'the-id-token',
      claims: { sub: 'alice', name: 'Ada' },
      refreshToken: 'the-refresh-token',
      refreshSentAt: 1,
      protocolEndpoints: ['https://login.example/token'],
    })
    const report = session.report(await session.readAgain())
    expect(report).toEqual({
      session: {
        claims: { sub: 'alice', name: 'Ada' },
        scope: 'openid',
        state: 'fresh',
        since: browser.now(),
        accessTokenExpiresAt: browser.now() + hour,
      },
    })
  })

  test('is that a sign-in has been asked for, for pages that have not heard it', async () => {
    const { session } = await createWorld({ loginRequired: true })
    expect(session.report(await session.readAgain())).toMatchObject({ loginRequired: true })
  })

  test('is why it ended, where it did', async () => {
    const { session } = await createWorld()
    await session.end('user_changed')
    expect(session.report(await session.readAgain())).toEqual({ ended: 'user_changed' })
    expect(session.report(undefined)).toEqual({ ended: undefined })
  })

  test('is stale without a live token, and renewing while one is fetched (OF-02)', async () => {
    const { session, browser } = await createWorld()
    const state = async () => session.report(await session.readAgain()).session?.state
    expect(await state()).toBe('fresh')
    browser.setClock(hour)
    expect(await state()).toBe('stale')
    await session.setRenewing(true, await session.readAgain())
    expect(await state()).toBe('renewing')
    await session.setRenewing(false, await session.readAgain())
    expect(await state()).toBe('stale')
  })

  test('is not renewing any more once there is no record to tell of', async () => {
    const { session, events } = await createWorld()
    await session.setRenewing(true, await session.readAgain())
    await session.setRenewing(false, undefined)
    expect(session.report(await session.readAgain()).session?.state).toBe('fresh')
    expect(events).toHaveLength(1)
  })
})

describe('a live token', () => {
  const now = 1_700_000_000_000

  test.each<[string, Partial<ActiveRecord>, boolean]>([
    ['until it expires', { accessTokenExpiresAt: now + 1 }, true],
    ['not when it expires', { accessTokenExpiresAt: now }, false],
    ['without an end, if the server named none', { accessTokenExpiresAt: undefined }, true],
    ['not if there is none', { accessToken: undefined }, false],
    ['on a clock that was set back a little', { accessTokenIssuedAt: now + 60_000 }, true],
    ['not on a clock that was set back more', { accessTokenIssuedAt: now + 60_001 }, false],
  ])('is one %s', (_title, more, live) => {
    expect(hasLiveToken(activeRecord(now, more), now)).toBe(live)
  })
})

describe('new tokens', () => {
  const now = 1_700_000_000_000
  const record = activeRecord(now, {
    refreshToken: 'old',
    refreshSentAt: 5,
    retry: { failures: 2, notBefore: 9 },
    loginRequired: true,
  })

  test('replace the old ones and what was written about failures', () => {
    const tokens = {
      accessToken: 'a',
      issuedAt: now,
      expiresAt: now + 1,
      refreshToken: 'new',
      scope: 'x',
    }
    expect(withTokens(record, tokens)).toMatchObject({
      accessToken: 'a',
      accessTokenIssuedAt: now,
      accessTokenExpiresAt: now + 1,
      refreshToken: 'new',
      refreshSentAt: undefined,
      retry: undefined,
      loginRequired: undefined,
      scope: 'x',
      session: record.session,
    })
  })

  test('without a refresh token keep the old one, and what is unknown of it (RF-07)', () => {
    const next = withTokens(record, { accessToken: 'a', issuedAt: now })
    expect(next).toMatchObject({ refreshToken: 'old', refreshSentAt: 5, scope: 'openid' })
    expect(next.accessTokenExpiresAt).toBeUndefined()
  })
})

describe('a change', () => {
  test('is announced with its number and the scope, and nothing else (BR-07, PV-01)', async () => {
    const { session, browser, config, store } = await createWorld()
    await session.change((current) => current && { ...current })
    expect(browser.announcements).toEqual([
      { channel: store.name, data: { generation: 2, scope: config.root } },
    ])
  })

  test('that changes nothing is not announced', async () => {
    const { session, browser, before } = await createWorld()
    await session.change(() => undefined)
    await session.changeOwn('another session', () => before)
    await session.end('logout', 'another session')
    expect(browser.announcements).toEqual([])
  })

  test('of another worker is seen by the next request (BR-07)', async () => {
    const { session, createWorker } = await createWorld()
    await session.readAgain()
    expect(session.peek()?.record).toMatchObject({ status: 'active' })
    await createWorker().session.end('logout')
    await settle()
    expect(session.peek()).toBeUndefined()
    expect(await session.read()).toMatchObject({ status: 'ended' })
  })

  test('of a worker that is stopped as soon as it is on disk is seen all the same (SE-07)', async () => {
    // Found by simulation: the others sent the old token for as long as requests kept coming.
    const { session, createWorker } = await createWorld()
    await session.readAgain()
    const stopped = createWorker({ onStored: () => new Promise(() => {}) })
    stopped.session.change((current) => current && { ...current, accessToken: 'the next one' })
    await settle()
    expect(session.peek()).toBeUndefined()
    expect(await session.read()).toMatchObject({ accessToken: 'the next one' })
  })

  test('that is announced while the record is being read is not overlooked (SE-07)', async () => {
    const { browser, config, before, store } = await createWorld()
    const gate = { open: () => {} }
    const slow = {
      ...store,
      read: async () => {
        const record = await store.read()
        await new Promise<void>((resolve) => {
          gate.open = resolve
        })
        return record
      },
    }
    const publish = async () => {}
    const parts = { config, platform: browser.platform(), publish }
    const session = createSession({ ...parts, store: slow })
    const other = createSession({ ...parts, platform: browser.platform(), store })
    const reading = session.readAgain()
    await settle()
    await other.end('logout', before.session)
    await settle()
    gate.open()
    await settle()
    gate.open()
    expect(await reading).toMatchObject({ status: 'ended' })
    expect(session.peek()?.record?.status).not.toBe('active')
  })

  test('by a forged announcement has no effect but another look (BR-07)', async () => {
    const { session, browser, store, events } = await createWorld()
    await session.readAgain()
    browser
      .platform()
      .channel(store.name, () => {})
      .post({ type: 'signed-out', gen: 999 })
    await settle()
    expect(await session.read()).toMatchObject({ status: 'active', generation: 1 })
    expect(events).toEqual([])
  })

  test('of one session leaves another one alone (SE-07)', async () => {
    const { session, store } = await createWorld({ session: 'session-2' })
    expect(await session.changeOwn('session-1', (current) => ({ ...current, scope: 'x' }))).toBe(
      undefined,
    )
    expect(await store.read()).toMatchObject({ scope: 'openid', generation: 1 })
  })
})

describe('memory', () => {
  test('is not trusted after a pause of a second, or a clock that was set back', async () => {
    const { session, browser } = await createWorld()
    for (const by of [1001, -1]) {
      await session.readAgain()
      expect(session.peek()).toBeDefined()
      browser.setClock(by)
      expect(session.peek()).toBeUndefined()
      expect(session.peek()).toBeUndefined()
    }
  })

  test('is trusted as long as requests come one after the other', async () => {
    const { session, browser } = await createWorld()
    await session.readAgain()
    for (let round = 0; round < 20; round++) {
      browser.setClock(900)
      expect(session.peek()).toBeDefined()
    }
  })

  test('knows that a visitor never signed in: ten requests read the disk once', async () => {
    const { browser, config, createWorker } = createUnitWorld()
    const { store } = createWorker()
    const read = vi.fn(store.read)
    const parts = { config, publish: async () => {} }
    const counted = { ...store, read }
    const session = createSession({ ...parts, store: counted, platform: browser.platform() })
    for (let request = 0; request < 10; request++) {
      expect(await session.read()).toBeUndefined()
    }
    expect(read).toHaveBeenCalledTimes(1)
    const other = createSession({ ...parts, store, platform: browser.platform() })
    await other.change(() => activeRecord(browser.now()))
    await settle()
    expect(await session.read()).toMatchObject({ status: 'active' })
  })

  test('that finds the database emptied is signed out within one request (ST-10)', async () => {
    const { session, browser, store } = await createWorld()
    await session.readAgain()
    await new Promise((resolve) => {
      indexedDB.deleteDatabase(store.name).onsuccess = resolve
    })
    browser.setClock(1001)
    expect(await session.read()).toBeUndefined()
  })

  test('in use is dropped at once when the database goes, and pages are made to ask (ST-10)', async () => {
    const { session, browser, store } = await createWorld()
    await session.readAgain()
    expect(session.peek()).toBeDefined()
    await new Promise((resolve) => {
      indexedDB.deleteDatabase(store.name).onsuccess = resolve
    })
    // Without a pause, so memory would be trusted.
    expect(session.peek()).toBeUndefined()
    expect(browser.announcements.at(-1)).toEqual({
      channel: store.name,
      data: { generation: 0, scope: '' },
    })
  })

  test('that is gone when a worker starts makes pages ask, once (ST-10)', async () => {
    const { browser, createWorker } = createUnitWorld()
    const { session } = createWorker()
    for (let round = 0; round < 3; round++) expect(await session.readAgain()).toBeUndefined()
    expect(browser.announcements).toHaveLength(1)
  })
})

describe('the end of a session', () => {
  test('leaves no token and no claim in the database, and tells the pages once (SE-01)', async () => {
    const { session, store, events, before, steps } = await createWorld({ idToken: 'i' })
    expect(await session.end('logout')).toEqual(before)
    expect(await store.read()).toEqual({
      ...{ status: 'ended', generation: 2, reason: 'logout' },
      ...{ lastEnd: expect.any(String), lastSignOut: expect.any(String) },
    })
    expect(await session.end('logout')).toBeUndefined()
    expect(await session.end('ended', before.session)).toBeUndefined()
    expect(events).toEqual([{ type: 'signed-out', reason: 'logout' }])
    expect(steps).toEqual(['signed-out'])
  })
})

describe('what the record says of the ends of sessions', () => {
  const createEnds = async () => {
    const { session, store, before, createWorker } = await createWorld()
    const seen = async () => {
      const { lastEnd, lastSignOut } = (await createWorker().session.read()) ?? {}
      return { lastEnd, lastSignOut }
    }
    const signIn = (user: string) =>
      session.change(() => ({ ...before, user, session: `session of ${user}` }))
    await signIn('alice')
    return { session, store, seen, signIn }
  }

  test('stays as it is while the same user is in, and signs in again', async () => {
    const { session, seen, signIn } = await createEnds()
    const first = await seen()
    await session.changeOwn('session of alice', (record) => ({ ...record, scope: 'less' }))
    await signIn('alice')
    expect(await seen()).toEqual(first)
    expect(first).toEqual({ lastEnd: expect.any(String), lastSignOut: expect.any(String) })
  })

  test('names each end, and apart from it each after which nothing waits for its user', async () => {
    const { session, seen, signIn } = await createEnds()
    const first = await seen()
    await session.end('ended')
    await signIn('alice')
    const second = await seen()
    // Writes wait for a user whose session has only ended.
    expect(second).toEqual({ lastEnd: expect.any(String), lastSignOut: first.lastSignOut })
    expect(second.lastEnd).not.toBe(first.lastEnd)
    const all = [first, second]
    for (const next of [() => session.end('logout'), () => signIn('bob'), () => signIn('alice')]) {
      await next()
      all.push(await seen())
    }
    expect(new Set(all.map(({ lastEnd }) => lastEnd)).size).toBe(5)
    expect(new Set(all.map(({ lastSignOut }) => lastSignOut)).size).toBe(4)
  })

  test('is another one after the record was deleted: nobody knows what has ended', async () => {
    const { store, seen, signIn } = await createEnds()
    const first = await seen()
    await new Promise((resolve) => {
      indexedDB.deleteDatabase(store.name).onsuccess = resolve
    })
    await signIn('alice')
    const { lastEnd, lastSignOut } = await seen()
    expect([first.lastEnd, first.lastSignOut]).not.toContain(lastEnd)
    expect([first.lastEnd, first.lastSignOut]).not.toContain(lastSignOut)
  })
})

describe('asking for a sign-in', () => {
  const error = new TokenError('login_required', 'Sign in.')

  test('happens once until there is a new token, in all workers (SE-12)', async () => {
    const { session, events, createWorker, before } = await createWorld()
    const second = createWorker()
    await session.requireLogin('session-1', error)
    await session.requireLogin('session-1', error)
    await second.session.requireLogin('session-1', error)
    const ask = {
      type: 'login-required',
      error: { code: 'login_required', message: 'Sign in.' },
      session: expect.objectContaining({ claims: before.claims }),
    }
    expect([...events, ...second.events]).toEqual([ask])
    const tokens = { accessToken: 'a', issuedAt: 0 }
    await session.changeOwn('session-1', (current) => withTokens(current, tokens))
    await session.requireLogin('session-1', error)
    expect(events).toEqual([ask, expect.objectContaining({ type: 'login-required' })])
  })

  test('is not for a session that is over', async () => {
    const { session, events } = await createWorld()
    await session.requireLogin('session-0', error)
    expect(events).toEqual([])
  })

  test('is told before it is written down: a stopped worker must not keep it to itself', async () => {
    const { config, platform, store, before } = await createWorld()
    const session = createSession({
      ...{ config, store, platform },
      publish: async (event) => {
        if (event.type === 'login-required') await new Promise(() => {})
      },
    })
    void session.requireLogin(before.session, error)
    await settle()
    expect(await store.read()).not.toHaveProperty('loginRequired')
  })
})
