// `storage: 'memory'`: tokens are with the running worker, and nowhere else.
import { describe, expect, test } from 'vitest'
import { withTokens } from '../../sw/session/active-record.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { createStore } from '../../sw/session/store.js'
import { createLogout } from '../../sw/sign-in/logout.js'
import type { SilentLogin } from '../../sw/token/silent-login.js'
import { settle } from '../support/fake-platform.js'
import { activeRecord, createUnitWorld, readDatabase } from '../support/worker-parts.js'

const secrets = {
  accessToken: 'the-access-token',
  refreshToken: 'the-refresh-token',
  idToken: 'the-id-token',
  refreshSentAt: 4711,
  dpopKey: 'the-key',
}

const createWorld = () => {
  const world = createUnitWorld({ options: { storage: 'memory' } })
  const { browser, server, config } = world
  const { name } = createStore({ config, platform: browser.platform() })

  /** A worker that signs in silently as a page and the server let it. */
  const createWorker = (input: Parameters<typeof world.createWorker>[0] = {}) => {
    let frames = 0
    const silentLogin: SilentLogin = async ({ record }) => {
      frames++
      if (record?.status !== 'active') throw new Error('no session to renew')
      const { access_token, refresh_token } = server.issue(config.clientId, 'alice')
      const renewed = await worker.session.changeOwn(record.session, (current) =>
        withTokens(current, {
          accessToken: access_token,
          refreshToken: refresh_token,
          issuedAt: browser.now(),
          expiresAt: browser.now() + 3_600_000,
        }),
      )
      return renewed ? { kind: 'signed-in', record: renewed } : { kind: 'superseded' }
    }
    const worker = world.createWorker({ silentLogin, ...input })
    return {
      ...worker,
      frames: () => frames,
      /** The user signs in through this worker. */
      signIn: async (more: Partial<ActiveRecord> = {}) => {
        const { refresh_token: refreshToken } = server.issue(config.clientId, 'alice')
        const { after } = await worker.session.change(() =>
          activeRecord(browser.now(), { refreshToken, ...more }),
        )
        return after as ActiveRecord
      },
      get: () => worker.accessToken.get({ keepAlive: () => {}, canWait: true }),
    }
  }

  const onDisk = async () => JSON.stringify(await readDatabase(name))
  const put = (record: unknown) =>
    createStore({
      config: { ...config, storage: 'indexeddb' },
      platform: browser.platform(),
    }).update(() => record as ActiveRecord)
  return { ...world, name, createWorker, onDisk, put }
}

describe('with storage: memory, the disk', () => {
  test('has the session, and no token or key, nor what describes one (ST-01)', async () => {
    const { createWorker, onDisk, browser } = createWorld()
    const worker = createWorker()
    const record = await worker.signIn(secrets as unknown as Partial<ActiveRecord>)
    expect(await worker.store.read()).toEqual(record)
    const text = await onDisk()
    for (const value of Object.values(secrets)) expect(text).not.toContain(String(value))
    const restarted = await createWorker().store.read()
    expect(restarted).toEqual({
      ...record,
      ...{ accessToken: undefined, accessTokenIssuedAt: 0, accessTokenExpiresAt: undefined },
      ...{ refreshToken: undefined, refreshSentAt: undefined, idToken: undefined },
      dpopKey: undefined,
    })
    const { session } = worker.session.report(restarted)
    expect(session).toMatchObject({
      claims: { sub: 'alice' },
      since: browser.now(),
      state: 'stale',
    })
  })

  test('never sees a token, through a renewal and a change of claims (ST-01)', async () => {
    const { createWorker, onDisk, server, browser } = createWorld()
    const worker = createWorker()
    const { accessToken = '', refreshToken = '' } = await worker.signIn()
    browser.setClock(3_600_000)
    const result = await worker.get()
    expect(result).toMatchObject({ kind: 'token' })
    expect(server.tokenRequests()).toHaveLength(1)
    expect(worker.frames()).toBe(0)
    const renewed = (await worker.store.read()) as ActiveRecord
    expect(renewed.refreshToken).not.toBe(refreshToken)
    const text = await onDisk()
    const tokens = [accessToken, refreshToken, renewed.accessToken, renewed.refreshToken]
    for (const token of tokens) expect(text).not.toContain(token)
  })

  test('is rid of the tokens that it has from before, as soon as it is read (ST-01)', async () => {
    const { createWorker, onDisk, put, browser } = createWorld()
    await put(activeRecord(browser.now(), { refreshToken: 'old-refresh-token', idToken: 'old-id' }))
    const worker = createWorker()
    expect(await worker.store.read()).toMatchObject({
      session: 'session-1',
      claims: { sub: 'alice' },
    })
    expect(await onDisk()).not.toMatch(/access-token-0|old-/)
    expect(await worker.get()).toMatchObject({ kind: 'token' })
    expect(worker.frames()).toBe(1)
  })

  test('has no token that is used, should a script put one there (ST-01)', async () => {
    const { createWorker, put, browser } = createWorld()
    const worker = createWorker()
    const { accessToken } = await worker.signIn()
    await put(activeRecord(browser.now(), { accessToken: 'planted', refreshToken: 'planted' }))
    browser.setClock(1_001)
    expect(await worker.get()).toMatchObject({ kind: 'token', accessToken })
    expect(await createWorker().get()).not.toMatchObject({ accessToken: 'planted' })
  })

  test('that a script writes to all the time does not keep a sign-out from being one (SE-01)', async () => {
    const { createWorker, put } = createWorld()
    const worker = createWorker()
    const record = await worker.signIn()
    // The worker finds a token on the disk and takes it off, while the user signs out.
    await put({ ...record, accessToken: 'planted' })
    const looking = worker.session.readAgain()
    await Promise.all([looking, worker.session.end('logout')])
    expect(worker.accessToken.peek()).toBeUndefined()
    expect(await worker.get()).toMatchObject({ kind: 'signed-out' })
  })

  test('gets the tokens back where the option is taken out again', async () => {
    const { createWorker, config, browser } = createWorld()
    await createWorker().signIn()
    const store = createStore({
      config: { ...config, storage: 'indexeddb' },
      platform: browser.platform(),
    })
    expect(await store.read()).toMatchObject({ status: 'active', accessToken: undefined })
    await store.update((current) => current && { ...current, accessToken: 'new' })
    const again = createStore({
      config: { ...config, storage: 'indexeddb' },
      platform: browser.platform(),
    })
    expect(await again.read()).toMatchObject({ accessToken: 'new' })
  })

  test('that is full loses no refresh token that has just come (ST-07)', async () => {
    const { createWorker, browser, server } = createWorld()
    const worker = createWorker()
    await worker.signIn()
    browser.setClock(3_600_000)
    const original = IDBObjectStore.prototype.put
    let writes = 0
    IDBObjectStore.prototype.put = function (...args) {
      // The intent fits, what comes after the answer does not.
      if (++writes > 1) throw new DOMException('full', 'QuotaExceededError')
      return original.apply(this, args)
    }
    try {
      expect(await worker.get()).toMatchObject({ kind: 'token' })
    } finally {
      IDBObjectStore.prototype.put = original
    }
    expect(await worker.get()).toMatchObject({ kind: 'token' })
    expect(server.tokenRequests()).toHaveLength(1)
    expect(worker.frames()).toBe(0)
  })
})

describe('with storage: memory, a worker', () => {
  test('that was restarted signs in silently, and nobody notices (ST-01)', async () => {
    const { createWorker } = createWorld()
    await createWorker().signIn()
    const restarted = createWorker()
    const results = await Promise.all([restarted.get(), restarted.get(), restarted.get()])
    expect(new Set(results.map((result) => JSON.stringify(result))).size).toBe(1)
    expect(results[0]).toMatchObject({ kind: 'token', owner: expect.any(String) })
    expect(restarted.frames()).toBe(1)
    expect(restarted.events.map(({ type }) => type)).toEqual(['state', 'state'])
  })

  test('has tokens of its own beside another one, and each renews with its own (ST-01)', async () => {
    const { createWorker, browser, server, config } = createWorld()
    const [a, b] = [createWorker(), createWorker()]
    await a.signIn()
    await b.get()
    await settle()
    const own = (await a.store.read()) as ActiveRecord
    const other = (await b.store.read()) as ActiveRecord
    expect(other.session).toBe(own.session)
    expect(other.refreshToken).not.toBe(own.refreshToken)
    await a.store.update((current) => current && { ...current, refreshSentAt: 1 })
    expect(await b.store.read()).toMatchObject({ refreshSentAt: undefined })
    browser.setClock(3_600_000)
    server.setGrant({
      clientId: config.clientId,
      subject: 'alice',
      refreshToken: other.refreshToken,
    })
    expect(await b.get()).toMatchObject({ kind: 'token' })
    expect(server.tokenRequests().map(({ params }) => params.get('refresh_token'))).toEqual([
      other.refreshToken,
    ])
    expect(await a.store.read()).toMatchObject({ refreshToken: own.refreshToken, refreshSentAt: 1 })
  })

  test('forgets and revokes its tokens when the user signs out in another one (ST-01, SE-01)', async () => {
    const { createWorker, server, config } = createWorld()
    const [a, b] = [createWorker(), createWorker()]
    const { refreshToken } = await a.signIn()
    await b.get()
    await settle()
    const ofB = ((await b.store.read()) as ActiveRecord).refreshToken
    const kept: Promise<unknown>[] = []
    const logout = createLogout({ ...b, config, server: b.authorizationServer })
    await logout.begin({ local: true }, (work) => void kept.push(work))
    await Promise.all(kept)
    await settle()
    expect(new Set(server.revoked)).toEqual(new Set([ofB, refreshToken]))
    expect(await a.get()).toMatchObject({ kind: 'signed-out' })
    // Not even if the same session came back.
    await b.session.change(() => activeRecord(0, { session: 'session-1', accessToken: undefined }))
    expect(await a.store.read()).toMatchObject({ accessToken: undefined, refreshToken: undefined })
  })

  test('drops its tokens without revoking them when the same user signs in again', async () => {
    const { createWorker, server } = createWorld()
    const [a, b] = [createWorker(), createWorker()]
    await a.signIn()
    await b.signIn({ session: 'session-2' })
    await settle()
    expect(await a.store.read()).toMatchObject({ session: 'session-2', refreshToken: undefined })
    expect(server.revoked).toEqual([])
  })

  test('revokes them when another user does (SE-08)', async () => {
    const { createWorker, server } = createWorld()
    const [a, b] = [createWorker(), createWorker()]
    const { refreshToken } = await a.signIn()
    await b.signIn({ session: 'session-2', subject: 'bob' })
    await settle()
    expect(server.revoked).toEqual([refreshToken])
    expect(await a.store.read()).toMatchObject({ subject: 'bob', accessToken: undefined })
  })

  test('does not resurrect a session that ended while it refreshed (SE-07)', async () => {
    const { createWorker, browser, server, onDisk } = createWorld()
    let answer = () => {}
    const held = new Promise<void>((resolve) => {
      answer = resolve
    })
    const a = createWorker({
      fetch: async (...input) => {
        const response = await server.fetch(...input)
        if (String(input[0]).endsWith('/token')) await held
        return response
      },
    })
    await a.signIn()
    browser.setClock(3_600_000)
    const result = a.get()
    await settle()
    await createWorker().session.end('logout')
    answer()
    expect(await result).toMatchObject({ kind: 'signed-out' })
    expect(await onDisk()).toContain('"ended"')
    await settle()
    // Whichever of the two the server still knows.
    expect(server.revoked).toContain(server.refreshToken())
  })

  test('gives nothing away when its database is deleted (ST-10)', async () => {
    const { createWorker, name, server } = createWorld()
    const worker = createWorker()
    const { refreshToken } = await worker.signIn()
    await new Promise((resolve) => {
      indexedDB.deleteDatabase(name).onsuccess = resolve
    })
    expect(await worker.get()).toMatchObject({ kind: 'signed-out' })
    await settle()
    expect(server.revoked).toEqual([refreshToken])
  })
})
