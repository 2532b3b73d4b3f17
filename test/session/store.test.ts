import 'fake-indexeddb/auto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { forceCloseDatabase } from 'fake-indexeddb'
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { isTokenError } from '../../src/shared/errors.js'
import type { Outcome, Transaction } from '../../sw/session/records.js'
import { createStore, type Store } from '../../sw/session/store.js'
import { createFakeBrowser, settle } from '../support/fake-platform.js'
import { activeRecord, holdDatabase, readDatabase } from '../support/worker-parts.js'

let names = 0

const createStores = () => {
  const browser = createFakeBrowser()
  const config = { issuer: 'https://login.example', clientId: `store-${++names}` }
  const open = () => createStore({ config, platform: browser.platform() })
  return { browser, config, store: open(), open }
}

const done = (tx: IDBTransaction) =>
  new Promise((resolve, reject) => {
    tx.oncomplete = resolve
    tx.onabort = reject
  })

/** A connection as any script of the origin can have it. */
const openRaw = (
  name: string,
  version?: number,
  upgrade: (db: IDBDatabase) => void = () => {},
): Promise<IDBDatabase> =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open(name, version)
    request.onupgradeneeded = () => upgrade(request.result)
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })

/** Puts a value where a script of the page could put it, behind the back of the worker. */
const plant = async (name: string, storeName: string, key: string, value: unknown) => {
  const db = await openRaw(name)
  const tx = db.transaction(storeName, 'readwrite')
  tx.objectStore(storeName).put(value, key)
  await done(tx)
  db.close()
}

const transaction = (now: number, more: Partial<Transaction> = {}): Transaction => ({
  kind: 'login',
  createdAt: now,
  returnTo: 'https://app.example/',
  ...more,
})

const outcome = (now: number, result: Outcome['result'] = 'signed-in'): Outcome => ({
  kind: 'outcome',
  createdAt: now,
  returnTo: 'https://app.example/',
  result,
})

const taking = (now: number) => () => outcome(now, 'exchanging')

/** What databases ask for, while a test watches. */
const watchTransactions = () => {
  const seen: { mode: string; durability?: string; stores: unknown }[] = []
  const original = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (stores, mode = 'readonly', options) {
    seen.push({ stores, mode, durability: options?.durability })
    return original.call(this, stores, mode, options)
  }
  stopWatching = () => {
    IDBDatabase.prototype.transaction = original
  }
  return seen
}
let stopWatching = () => {}
afterEach(() => {
  stopWatching()
  stopWatching = () => {}
})

/** The connections that transactions are begun on from now on. */
const watchConnections = (): IDBDatabase[] => {
  const connections: IDBDatabase[] = []
  const original = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (...args) {
    connections.push(this)
    return original.apply(this, args)
  }
  stopWatching = () => {
    IDBDatabase.prototype.transaction = original
  }
  return connections
}

describe('the session record', () => {
  test('is absent at first, and then what was written', async () => {
    const { browser, store } = createStores()
    expect(await store.read()).toBeUndefined()
    const record = activeRecord(browser.now())
    const { before, after } = await store.update(() => record)
    expect(before).toBeUndefined()
    expect(after).toEqual({ ...record, generation: 1 })
    expect(await store.read()).toEqual(after)
  })

  test('survives a restart of the worker', async () => {
    const { browser, store, open } = createStores()
    await store.update(() => activeRecord(browser.now()))
    expect(await open().read()).toMatchObject({ accessToken: 'access-token-0' })
  })

  test('belongs to one issuer and client (ST-09, CF-10)', async () => {
    const { browser, store, config } = createStores()
    await store.update(() => activeRecord(browser.now()))
    const others = [
      { ...config, issuer: 'https://login.example/' },
      { ...config, clientId: `${config.clientId}0` },
    ]
    for (const other of others) {
      expect(
        await createStore({ config: other, platform: browser.platform() }).read(),
      ).toBeUndefined()
    }
    expect(store.name).toContain(config.clientId)
  })

  test('counts its changes, whatever a writer says (SE-07)', async () => {
    const { browser, store } = createStores()
    const record = activeRecord(browser.now(), { generation: 99 })
    await store.update(() => record)
    await store.update((current) => current && { ...current, generation: 0 })
    const { after } = await store.update(() => ({
      status: 'ended',
      generation: 0,
      reason: 'logout',
    }))
    expect(after?.generation).toBe(3)
  })

  test('stays as it is where the next one is undefined, and says so', async () => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    const { before, after } = await store.update(() => undefined)
    expect(before).toBeDefined()
    expect(after).toBe(before)
    expect((await store.read())?.generation).toBe(1)
  })

  test('is changed by one after the other, so that no change is lost (RF-04)', async () => {
    const { browser, store, open } = createStores()
    await store.update(() => activeRecord(browser.now(), { scope: '' }))
    const stores = [store, open(), open()]
    const add = (word: string) => (current: ReturnType<typeof activeRecord>) => ({
      ...current,
      scope: `${current.scope}${word}`,
    })
    const words = [...'abcdefghijklmnopqrst']
    await Promise.all(
      words.map((word, index) =>
        stores[index % 3]!.update((current) => add(word)(current as never)),
      ),
    )
    const record = (await store.read()) as ReturnType<typeof activeRecord>
    expect([...record.scope].sort().join('')).toBe(words.join(''))
    expect(record.generation).toBe(21)
  })

  test('is never overwritten by a copy that is behind (RF-04)', async () => {
    const { browser, store, open } = createStores()
    await store.update(() => activeRecord(browser.now(), { refreshToken: 'old' }))
    const stale = await store.read()
    await open().update((current) => ({ ...(current as object), refreshToken: 'new' }) as never)
    await store.update((current) => (current?.generation === stale?.generation ? stale : undefined))
    expect(await store.read()).toMatchObject({ refreshToken: 'new' })
  })

  test('is written with strict durability, in one transaction (ST-05)', async () => {
    const { browser, store } = createStores()
    await store.read()
    const seen = watchTransactions()
    await store.update(() => activeRecord(browser.now()))
    const stores = ['session', 'transactions']
    expect(seen).toEqual([{ stores, mode: 'readwrite', durability: 'strict' }])
  })
})

describe('the database', () => {
  test('is opened again after the browser has closed it (ST-07)', async () => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    const connections = watchConnections()
    await store.read()
    connections.at(-1)?.close()
    // A closed connection throws InvalidStateError.
    expect(await store.read()).toMatchObject({ status: 'active' })
    expect(new Set(connections).size).toBe(2)
  })

  test('is let go for a newer version, and for whoever deletes it (ST-07)', async () => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    await new Promise((resolve, reject) => {
      const request = indexedDB.deleteDatabase(store.name)
      request.onsuccess = resolve
      request.onerror = reject
    })
    expect(await store.read()).toBeUndefined()
    await store.update(() => activeRecord(browser.now()))
    expect(await store.read()).toMatchObject({ generation: 1 })
  })

  test('of a newer version of the library is used, and what is new in it kept (ST-07)', async () => {
    const { browser, store } = createStores()
    const later = await openRaw(store.name, 7, (db) => {
      for (const name of ['session', 'transactions', 'server', 'later']) db.createObjectStore(name)
    })
    const tx = later.transaction(['session', 'later'], 'readwrite')
    tx.objectStore('later').put('new', 'key')
    tx.objectStore('session').put(activeRecord(browser.now(), { later: 'new' } as never), 'current')
    await done(tx)
    later.close()
    expect(await store.read()).toMatchObject({ accessToken: 'access-token-0' })
    await store.update((current) => current && { ...current, scope: 'less' })
    expect(await readDatabase(store.name)).toMatchObject({
      session: [['current', { scope: 'less', later: 'new', generation: 1 }]],
      later: [['key', 'new']],
    })
  })

  test.each<[string, (db: IDBDatabase) => void]>([
    ['lacks the stores', () => {}],
    [
      'lacks one of them',
      (db) => {
        db.createObjectStore('session')
        db.createObjectStore('server')
      },
    ],
    [
      'has stores of another kind',
      (db) => {
        const keyPath = 'id'
        for (const name of ['session', 'transactions', 'server']) {
          db.createObjectStore(name, { keyPath })
        }
      },
    ],
    [
      'has stores that refuse what is put there',
      (db) => {
        for (const name of ['session', 'transactions', 'server']) {
          db.createObjectStore(name).createIndex('x', 'kind', { unique: true })
        }
      },
    ],
  ])('that %s was made by somebody else, and is made anew (CB-12, ST-08)', async (_what, make) => {
    const { browser, store } = createStores()
    ;(await openRaw(store.name, 1, make)).close()
    expect(await store.read()).toBeUndefined()
    await store.update(() => activeRecord(browser.now()))
    for (const key of ['a', 'b']) await store.addTransaction(key, transaction(browser.now()))
    await store.writeMetadata({ issuer: 'https://login.example' })
    for (const key of ['a', 'b']) {
      // What was written before another store turned out to be unusable may have gone with it.
      if (_what.includes('refuse') && key === 'a') continue
      expect(await store.readTransaction(key)).toBeDefined()
    }
    await store.update(() => activeRecord(browser.now()))
    expect(await store.read()).toBeDefined()
  })

  test('that somebody else holds on to while it is deleted fails in time (ST-07)', async () => {
    const { browser, store } = createStores()
    const holder = await openRaw(store.name, 1)
    const deletion = indexedDB.deleteDatabase(store.name)
    await new Promise((resolve) => {
      deletion.onblocked = resolve
    })
    const read = store.read().catch((cause: unknown) => cause)
    await browser.pass(6_000)
    expect(await read).toMatchObject({ code: 'storage_failed', transient: true })
    expect(isTokenError(await read)).toBe(true)
    holder.close()
    await browser.pass(3_000)
    expect(await store.read()).toBeUndefined()
  })

  test.each<[string, (store: Store, now: number) => Promise<unknown>]>([
    ['reading the session', (store) => store.read()],
    ['writing it', (store) => store.update((current) => current && { ...current, scope: 'new' })],
    ['beginning a sign-in', (store, now) => store.addTransaction('new', transaction(now))],
    ['taking one', (store, now) => store.takeTransaction('old', taking(now))],
    ['looking for one', (store) => store.readTransaction('old')],
    ['listing them', (store) => store.listTransactions()],
    ['reading what is kept of the server', (store) => store.readMetadata()],
    ['writing it', (store) => store.writeMetadata({ issuer: 'new' })],
  ])(
    'that a page keeps a transaction open in: %s fails in 6 s, and nothing comes of it later (ST-07)',
    async (_, work) => {
      const { browser, store } = createStores()
      await store.update(() => activeRecord(browser.now()))
      await store.addTransaction('old', transaction(browser.now()))
      await store.writeMetadata({ issuer: 'old' })
      const before = await readDatabase(store.name)
      const { release } = await holdDatabase(store.name)
      const failing = work(store, browser.now()).catch((cause: unknown) => cause)
      const startedAt = browser.now()
      await browser.pass(6_000)
      expect(await failing).toMatchObject({ code: 'storage_failed', transient: true })
      // What the same request does next does not wait as long again.
      await expect(store.read()).rejects.toMatchObject({ code: 'storage_failed' })
      expect(browser.now() - startedAt).toBe(6_000)
      expect(browser.timers()).toBe(0)
      await release()
      await browser.pass(3_000)
      expect(await readDatabase(store.name)).toEqual(before)
      expect(await store.read()).toMatchObject({ status: 'active' })
    },
  )

  test('that a page lets go of in time is waited for (ST-07)', async () => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    const { release } = await holdDatabase(store.name)
    const write = store.update((current) => current && { ...current, scope: 'new' })
    await browser.pass(4_000)
    await release()
    expect((await write).after).toMatchObject({ scope: 'new', generation: 2 })
    expect(browser.timers()).toBe(0)
  })

  test('tells that it has gone, deleted or closed by the browser (ST-10)', async () => {
    const { browser, config } = createStores()
    const lost = vi.fn()
    const store = createStore({ config, platform: browser.platform(), events: { lost } })
    await store.update(() => activeRecord(browser.now()))
    await new Promise((resolve) => {
      indexedDB.deleteDatabase(store.name).onsuccess = resolve
    })
    expect(lost).toHaveBeenCalledTimes(1)
    const connections = watchConnections()
    await store.read()
    forceCloseDatabase(connections.at(-1) as never)
    await settle()
    expect(lost).toHaveBeenCalledTimes(2)
    expect(await store.read()).toBeUndefined()
  })

  test.each([
    ['InvalidStateError', 1],
    ['UnknownError', 1],
    ['QuotaExceededError', 1],
    ['AbortError', 1],
  ])('that fails with %s is tried once more, on a new connection (ST-07)', async (name, times) => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    let failures = 0
    const original = IDBDatabase.prototype.transaction
    IDBDatabase.prototype.transaction = function (...args) {
      if (failures++ < times) throw new DOMException('fails', name)
      return original.apply(this, args)
    }
    stopWatching = () => {
      IDBDatabase.prototype.transaction = original
    }
    expect(await store.read()).toMatchObject({ status: 'active' })
    expect(failures).toBe(times + 1)
  })

  test('that does not open in 3 s fails with a typed error (ST-07)', async () => {
    const { browser, store } = createStores()
    const original = indexedDB.open
    indexedDB.open = () => ({ addEventListener: () => {} }) as never
    try {
      const read = store.read().catch((cause: unknown) => cause)
      await browser.pass(6_000)
      expect(await read).toMatchObject({ code: 'storage_failed' })
    } finally {
      indexedDB.open = original
    }
  })

  test('that is full fails a write with a typed error, and keeps the old record (ST-07)', async () => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    const original = IDBObjectStore.prototype.put
    const put = vi.fn(() => {
      throw new DOMException('full', 'QuotaExceededError')
    })
    IDBObjectStore.prototype.put = put
    try {
      const write = store.update((current) => current && { ...current, generation: 5 })
      await expect(write).rejects.toMatchObject({ code: 'storage_failed' })
    } finally {
      IDBObjectStore.prototype.put = original
    }
    expect(put).toHaveBeenCalledTimes(2)
    expect(await store.read()).toMatchObject({ generation: 1 })
  })

  test('works on once it opens again', async () => {
    const { browser, store } = createStores()
    const original = indexedDB.open
    indexedDB.open = () => {
      throw new DOMException('blocked', 'SecurityError')
    }
    try {
      await expect(store.read()).rejects.toMatchObject({ code: 'storage_failed' })
    } finally {
      indexedDB.open = original
    }
    await store.update(() => activeRecord(browser.now()))
    expect(await store.read()).toBeDefined()
  })
})

describe('a transaction', () => {
  test('is taken once, and its outcome is left in its place (CB-06)', async () => {
    const { browser, store } = createStores()
    const now = browser.now()
    await store.addTransaction('key', transaction(now))
    expect(await store.takeTransaction('key', taking(now))).toEqual(transaction(now))
    expect(await store.takeTransaction('key', taking(now))).toEqual(outcome(now, 'exchanging'))
    await store.putOutcome('key', outcome(now))
    expect(await store.takeTransaction('key', taking(now))).toEqual(outcome(now))
    expect(await store.readTransaction('key')).toEqual(outcome(now))
  })

  test('is taken by one of two workers that come at the same time (CB-06)', async () => {
    const { browser, store, open } = createStores()
    const now = browser.now()
    for (let round = 0; round < 20; round++) {
      const key = `key-${round}`
      await store.addTransaction(key, transaction(now))
      const takers = [store, open(), open(), store]
      const taken = await Promise.all(takers.map((each) => each.takeTransaction(key, taking(now))))
      expect(taken.filter((each) => each?.kind === 'login')).toHaveLength(1)
      expect(taken.filter((each) => each?.kind === 'outcome')).toHaveLength(3)
    }
  })

  test('can be taken without a trace', async () => {
    const { browser, store } = createStores()
    await store.addTransaction('key', transaction(browser.now()))
    expect(await store.takeTransaction('key', () => null)).toBeDefined()
    expect(await store.readTransaction('key')).toBeUndefined()
    expect(await store.takeTransaction('key', () => null)).toBeUndefined()
  })

  test('is written and taken with strict durability (ST-05)', async () => {
    const { browser, store } = createStores()
    await store.addTransaction('key', transaction(browser.now()))
    const seen = watchTransactions()
    await store.takeTransaction('key', () => null)
    const stores = ['transactions']
    expect(seen).toEqual([{ stores, mode: 'readwrite', durability: 'strict' }])
  })

  test('lives for an hour, because sign-ins by e-mail are slow (AR-12)', async () => {
    const { browser, store } = createStores()
    await store.addTransaction('a', transaction(browser.now()))
    await store.addTransaction('b', transaction(browser.now()))
    await browser.pass(3_600_000)
    expect(await store.takeTransaction('a', () => null)).toBeDefined()
    await browser.pass(1)
    expect(await store.takeTransaction('b', () => null)).toBeUndefined()
  })

  test('is worth nothing on a clock that was set back by more than that (AR-12)', async () => {
    const { browser, store } = createStores()
    await store.addTransaction('a', transaction(browser.now()))
    browser.setClock(-3_600_001)
    expect(await store.takeTransaction('a', () => null)).toBeUndefined()
  })

  test('that is old is purged when the next one begins (AR-12)', async () => {
    const { browser, store } = createStores()
    await store.addTransaction('old', transaction(browser.now()))
    await store.putOutcome('old outcome', outcome(browser.now()))
    await browser.pass(3_600_001)
    await store.addTransaction('new', transaction(browser.now()))
    expect(await store.readTransaction('old')).toBeUndefined()
    expect(await store.readTransaction('old outcome')).toBeUndefined()
    expect(await store.readTransaction('new')).toBeDefined()
  })

  test('is pushed out by the 20 that are younger (AR-12)', async () => {
    const { browser, store } = createStores()
    for (let index = 0; index < 21; index++) {
      browser.setClock(1)
      await store.addTransaction(`key-${index}`, transaction(browser.now()))
    }
    expect(await store.readTransaction('key-0')).toBeUndefined()
    expect(await store.readTransaction('key-1')).toBeDefined()
    expect(await store.readTransaction('key-20')).toBeDefined()
  })

  test('is not pushed out by 20 from before the clock was set back (AR-12)', async () => {
    // Found by simulation: nobody could sign in until the clock had caught up.
    const { browser, store } = createStores()
    for (let index = 0; index < 20; index++) {
      await store.addTransaction(`key-${index}`, transaction(browser.now(), { kind: 'silent' }))
    }
    browser.setClock(-1_800_000)
    await store.addTransaction('new', transaction(browser.now()))
    expect(await store.readTransaction('new')).toBeDefined()
  })

  test('is not pushed out by outcomes, nor an outcome by transactions (AR-12)', async () => {
    const { browser, store } = createStores()
    await store.addTransaction('early', transaction(browser.now()))
    await store.putOutcome('early outcome', outcome(browser.now()))
    for (let index = 1; index < 20; index++) {
      browser.setClock(1)
      await store.putOutcome(`outcome-${index}`, outcome(browser.now()))
      await store.addTransaction(`key-${index}`, transaction(browser.now()))
    }
    expect(await store.readTransaction('early')).toMatchObject({ kind: 'login' })
    expect(await store.readTransaction('early outcome')).toMatchObject({ kind: 'outcome' })
  })
})

describe('what another script has written', () => {
  // Many runs, on a machine that may be busy.
  const slow = { timeout: 60_000 }
  /** Values of any type that IndexedDB takes. */
  const anything = fc
    .anything({
      ...{ withBigInt: true, withDate: true, withMap: true, withSet: true },
      ...{ withTypedArray: true, withSparseArray: true, withBoxedValues: true },
      ...{ maxDepth: 3, withNullPrototype: true },
    })
    .filter((value) => {
      try {
        structuredClone(value)
        return true
      } catch {
        return false
      }
    })
  const fields = [
    ...['status', 'generation', 'session', 'since', 'claims', 'subject', 'scope', 'idToken'],
    ...['accessToken', 'accessTokenIssuedAt', 'accessTokenExpiresAt', 'refreshToken'],
    ...['refreshSentAt', 'retry', 'silentLoginWorks', 'silentLoginFailed', 'loginRequired'],
    ...['protocolEndpoints', 'reason', '__proto__', 'constructor', 'toString', 'later'],
  ]
  const changed = <T extends object>(valid: () => T, names: string[]) =>
    fc
      .dictionary(fc.constantFrom(...names), anything, { minKeys: 1, maxKeys: 3 })
      .map((spoilt) => Object.defineProperties(valid(), Object.getOwnPropertyDescriptors(spoilt)))

  test(
    'as a session record is a record that can be used, or none (CB-12, ST-08)',
    slow,
    async () => {
      const { browser, store, open } = createStores()
      await store.read()
      const nearly = changed(() => activeRecord(browser.now(), { refreshToken: 'r' }), fields)
      await fc.assert(
        fc.asyncProperty(fc.oneof(anything, nearly), async (value) => {
          await plant(store.name, 'session', 'current', value)
          const record = await open().read()
          if (record?.status === 'active') {
            // What the worker does with it.
            expect(record.generation + record.since - record.accessTokenIssuedAt).not.toBeNaN()
            expect((record.retry?.failures ?? 0) + 1 + (record.retry?.notBefore ?? 0)).not.toBeNaN()
            expect((record.silentLoginFailed?.times ?? 0) + 1).not.toBeNaN()
            expect(record.protocolEndpoints.includes('x')).toBe(false)
            new Headers().set('authorization', `Bearer ${record.accessToken}`)
            structuredClone({ ...record.claims, sub: record.subject })
          }
          const { after } = await open().update(() => activeRecord(browser.now()))
          expect(await open().read()).toEqual(after)
        }),
        { numRuns: 150 },
      )
    },
  )

  test('as a session record is said once, and is gone with all that was in it (ST-08)', async () => {
    const { browser, config, open } = createStores()
    const damaged = vi.fn()
    const store = createStore({ config, platform: browser.platform(), events: { damaged } })
    await store.read()
    const record = {
      ...activeRecord(browser.now(), { refreshToken: 'the-refresh-token' }),
      since: '1',
    }
    await plant(store.name, 'session', 'current', record)
    expect(await store.read()).toBeUndefined()
    expect(await store.read()).toEqual({
      status: 'ended',
      generation: 1,
      reason: 'storage_cleared',
    })
    expect(await open().read()).toMatchObject({ status: 'ended' })
    expect(damaged).toHaveBeenCalledExactlyOnceWith(
      expect.objectContaining({ code: 'storage_failed' }),
    )
  })

  test('as a session record on a full disk is none, and nothing fails (ST-08)', async () => {
    const { store } = createStores()
    await store.read()
    await plant(store.name, 'session', 'current', 5)
    const original = IDBObjectStore.prototype.put
    IDBObjectStore.prototype.put = () => {
      throw new DOMException('full', 'QuotaExceededError')
    }
    try {
      expect(await store.read()).toBeUndefined()
    } finally {
      IDBObjectStore.prototype.put = original
    }
  })

  test(
    'as a transaction is one that can be used, or none, and is cleared away (CB-12, AR-12)',
    slow,
    async () => {
      const { browser, store } = createStores()
      await store.read()
      const now = browser.now()
      const sent = { nonce: 'n', verifier: 'v', redirectUri: 'r' }
      const nearly = fc.oneof(
        changed(
          () => transaction(now, { sent, params: { prompt: 'login' } }),
          ['kind', 'createdAt', 'returnTo', 'params', 'session', 'generation', 'report', 'sent'],
        ),
        changed(() => outcome(now), ['kind', 'createdAt', 'returnTo', 'result']),
      )
      await fc.assert(
        fc.asyncProperty(fc.oneof(anything, nearly), async (value) => {
          await plant(store.name, 'transactions', 'key', value)
          const found = await store.readTransaction('key')
          expect(await store.takeTransaction('key', taking(now))).toEqual(found)
          if (found) expect(new URL(found.returnTo).origin).toBe('https://app.example')
          await plant(store.name, 'transactions', 'key', value)
          await store.addTransaction('other', transaction(now))
          const { transactions } = await readDatabase(store.name)
          expect(transactions?.map(([key]) => key)).toEqual(found ? ['key', 'other'] : ['other'])
        }),
        { numRuns: 150 },
      )
    },
  )

  test('leads nowhere else than to this origin (AR-10)', async () => {
    const { browser, store } = createStores()
    await store.read()
    for (const returnTo of [
      'https://evil.example/',
      'https://app.example.evil.example/',
      '//evil.example',
      'javascript:0',
    ]) {
      await plant(store.name, 'transactions', 'key', transaction(browser.now(), { returnTo }))
      expect(await store.readTransaction('key')).toBeUndefined()
    }
  })

  test('as metadata is an object with a time, or nothing (CB-12)', slow, async () => {
    const { store } = createStores()
    await store.read()
    const nearly = changed(() => ({ metadata: {}, fetchedAt: 1 }), ['metadata', 'fetchedAt'])
    await fc.assert(
      fc.asyncProperty(fc.oneof(anything, nearly), async (value) => {
        await plant(store.name, 'server', 'metadata', value)
        const { metadata, fetchedAt } = (await store.readMetadata()) ?? {
          metadata: {},
          fetchedAt: 0,
        }
        expect(typeof metadata).toBe('object')
        expect(metadata).not.toBeNull()
        expect(0 - fetchedAt).not.toBeNaN()
      }),
      { numRuns: 100 },
    )
  })
})

describe('clearing up', () => {
  const place = () => `https://app.example/${++names}/tokenward/login.html`
  const databases = async () => (await indexedDB.databases()).map(({ name }) => name)

  test('deletes the database of a former client, with its refresh token (ST-09)', async () => {
    const { browser, config, store } = createStores()
    const here = place()
    await store.update(() => activeRecord(browser.now(), { refreshToken: 'left behind' }))
    await store.tidy(here)
    const changed = createStore({
      config: { ...config, clientId: `${config.clientId}-new` },
      platform: browser.platform(),
    })
    await changed.update(() => activeRecord(browser.now()))
    expect(await databases()).toContain(store.name)
    await changed.tidy(here)
    expect(await databases()).not.toContain(store.name)
    expect(await changed.read()).toBeDefined()
    await changed.tidy(here)
    expect(await changed.read()).toBeDefined()
  })

  test('leaves a database alone that another worker uses, or has never used here (CF-10)', async () => {
    const { browser, config, store, open } = createStores()
    const [here, there, third] = [place(), place(), place()]
    await store.update(() => activeRecord(browser.now()))
    await store.tidy(here)
    await open().tidy(there)
    const other = createStore({
      config: { ...config, issuer: 'https://other.example' },
      platform: browser.platform(),
    })
    await other.tidy(third)
    await other.tidy(here)
    expect(await store.read()).toBeDefined()
    // Until nobody does any more.
    await other.tidy(there)
    expect(await databases()).not.toContain(store.name)
  })

  test('tries again where somebody holds on to the former database', async () => {
    const { browser, config, store } = createStores()
    const here = place()
    await store.tidy(here)
    const holder = await openRaw(store.name)
    const changed = createStore({
      config: { ...config, clientId: `${config.clientId}-new` },
      platform: browser.platform(),
    })
    const tidied = changed.tidy(here).catch((cause: unknown) => cause)
    await browser.pass(3_000)
    expect(await tidied).toBeInstanceOf(Error)
    holder.close()
    await changed.tidy(here)
    expect(await databases()).not.toContain(store.name)
  })

  test('deletes nothing that does not look like a database of ours', async () => {
    const { store } = createStores()
    const here = place()
    await store.tidy(place())
    ;(await openRaw('precious', 1)).close()
    for (const value of ['precious', 5, null, { name: 'precious' }, ['precious']]) {
      await plant('tokenward', 'places', here, value)
      await store.tidy(here)
      expect(await databases()).toContain('precious')
    }
  })

  test('drops what is left of a sign-in that was begun more than an hour ago (AR-12)', async () => {
    const { browser, store, open } = createStores()
    const sent = { nonce: 'the-nonce', verifier: 'the-verifier', redirectUri: 'x' }
    await store.addTransaction('key', transaction(browser.now(), { sent }))
    browser.setClock(3_600_001)
    await open().tidy(place())
    expect(JSON.stringify(await readDatabase(store.name))).not.toContain('the-')
  })
})

test('a sign-out takes every sign-in that is under way with it, in one go (SE-01, AR-12)', async () => {
  const { browser, store } = createStores()
  const sent = { nonce: 'the-nonce', verifier: 'the-verifier', redirectUri: 'x' }
  const record = activeRecord(browser.now(), { refreshToken: 'the-refresh', idToken: 'the-id' })
  await store.update(() => ({ ...record, accessToken: 'the-access' }))
  await store.addTransaction('a', transaction(browser.now(), { sent }))
  await store.update(() => ({ status: 'ended', generation: 0, reason: 'ended' }))
  expect(await store.readTransaction('a')).toBeDefined()
  await store.update(() => ({ ...record, accessToken: 'the-access' }))
  const seen = watchTransactions()
  await store.update(() => ({ status: 'ended', generation: 0, reason: 'logout' }))
  expect(seen).toHaveLength(1)
  expect(JSON.stringify(await readDatabase(store.name))).not.toContain('the-')
})

test('the outcome of a sign-in survives a restart of the worker (CB-06)', async () => {
  const { browser, store, open } = createStores()
  await store.putOutcome('key', outcome(browser.now()))
  expect(await open().readTransaction('key')).toEqual(outcome(browser.now()))
})

test('the metadata of the server is kept with the time it was fetched (TK-14)', async () => {
  const { browser, store, open } = createStores()
  expect(await store.readMetadata()).toBeUndefined()
  await store.writeMetadata({ issuer: 'https://login.example' })
  const metadata = { issuer: 'https://login.example' }
  expect(await open().readMetadata()).toEqual({ metadata, fetchedAt: browser.now() })
})

test('persistence is never asked for, since in some browsers that asks the user (ST-07)', () => {
  const files = ['sw', 'src'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
  )
  const sources = files.filter((file) => file.endsWith('.ts'))
  expect(sources).toContain(join('sw', 'session', 'store.ts'))
  expect(sources.filter((file) => /\.persist\b/.test(readFileSync(file, 'utf8')))).toEqual([])
})
