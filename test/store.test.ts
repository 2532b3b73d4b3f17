import 'fake-indexeddb/auto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { isTokenError } from '../src/shared/errors.js'
import { createStore, type Outcome, type Transaction } from '../sw/store.js'
import { createFakeBrowser } from './support/fake-platform.js'
import { activeRecord } from './support/worker-parts.js'

let names = 0

const createStores = () => {
  const browser = createFakeBrowser()
  const config = { issuer: 'https://login.example', clientId: `store-${++names}` }
  const open = () => createStore(config, browser.platform())
  return { browser, config, store: open(), open }
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
      expect(await createStore(other, browser.platform()).read()).toBeUndefined()
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
    expect(seen).toEqual([{ stores: 'session', mode: 'readwrite', durability: 'strict' }])
  })
})

describe('the database', () => {
  test('is opened again after the browser has closed it (ST-07)', async () => {
    const { browser, store } = createStores()
    await store.update(() => activeRecord(browser.now()))
    const connections: IDBDatabase[] = []
    const original = IDBDatabase.prototype.transaction
    IDBDatabase.prototype.transaction = function (...args) {
      connections.push(this)
      return original.apply(this, args)
    }
    stopWatching = () => {
      IDBDatabase.prototype.transaction = original
    }
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

  test('of a newer version of the library fails with a typed error, and does not hang (ST-07)', async () => {
    const { store } = createStores()
    await new Promise((resolve) => {
      const request = indexedDB.open(store.name, 7)
      request.onsuccess = () => {
        request.result.close()
        resolve(undefined)
      }
    })
    const error = await store.read().catch((cause: unknown) => cause)
    expect(error).toMatchObject({ code: 'storage_failed', transient: true })
    expect(isTokenError(error)).toBe(true)
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
    expect(seen).toEqual([{ stores: 'transactions', mode: 'readwrite', durability: 'strict' }])
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
