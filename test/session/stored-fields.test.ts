import 'fake-indexeddb/auto'
import { describe, expect, test } from 'vitest'
import type {
  ActiveRecord,
  DepartedTransaction,
  DpopKey,
  DpopState,
  EndedRecord,
  Outcome,
  RequestSecrets,
  StoredKeys,
  StoredMetadata,
} from '../../sw/session/records.js'
import { createStore } from '../../sw/session/store.js'
import { createFakeBrowser } from '../support/fake-platform.js'
import { activeRecord } from '../support/worker-parts.js'

let names = 0

const createDisk = async () => {
  const browser = createFakeBrowser()
  const config = { issuer: 'https://login.example', clientId: `fields-${++names}` }
  const problems: string[] = []
  const store = createStore({
    config,
    platform: browser.platform(),
    events: { damaged: ({ code }) => problems.push(code) },
  })
  await store.read()
  /** Puts a value where a script of the page could put it. */
  const plant = (storeName: string, key: string, value: unknown) =>
    new Promise<void>((resolve, reject) => {
      const request = indexedDB.open(store.name)
      request.onerror = reject
      request.onsuccess = () => {
        const db = request.result
        const tx = db.transaction(storeName, 'readwrite')
        tx.objectStore(storeName).put(value, key)
        tx.onabort = reject
        tx.oncomplete = () => {
          db.close()
          resolve()
        }
      }
    })
  return { store, plant, problems, now: browser.now() }
}

/** A list that claims to be as long as a list can be, and is empty. */
const endless: unknown[] = []
endless.length = 2 ** 32 - 1
/** More than a server can have sent. */
const flood = 'x'.repeat(2_000_001)

/** A member with a `?` may be missing, in the type and on the disk. */
type Fields<T> = Record<keyof T, unknown[]>

const notText = [5, null, true, {}, ['x'], endless, flood]
const notNumber = ['1', null, Number.NaN, 1n, {}, endless]
const notFlag = ['true', 1, null, {}, endless]
const notMap = ['x', 5, null, [], endless, new Map(), { a: flood }, { a: endless }]
const notSecret = [...notText, undefined]
const notTime = [...notNumber, undefined]
const wrongKeys: Fields<DpopKey> = {
  jkt: notSecret,
  jwk: [...notMap, undefined, { crv: 'P-256', kty: 'EC', x: 'x', y: 5 }],
  privateKey: ['x', null, {}, { extractable: false }, new Uint8Array(1)],
}
const jwk = { crv: 'P-256', kty: 'EC', x: 'x', y: 'y' }

const within = <T extends object>(whole: T, fields: Fields<T>): unknown[] =>
  Object.entries<unknown[]>(fields).flatMap(([name, values]) =>
    values.map((value) => ({ ...whole, [name]: value })),
  )

const wrongKey = ['x', null, endless, {}, ...within<DpopKey>({ jkt: 'k', jwk }, wrongKeys)]

/** Writes each wrong value of each field, and shows what comes of it. */
const forEachWrong = async <T extends object>(
  whole: T,
  fields: Fields<T>,
  check: (spoilt: object, what: string) => Promise<void>,
) => {
  for (const [name, values] of Object.entries<unknown[]>(fields)) {
    expect(values.length, name).toBeGreaterThan(2)
    for (const [index, value] of values.entries()) {
      await check({ ...whole, [name]: value }, `${name}, wrong value ${index}`)
    }
  }
}

// Hundreds of databases' worth of reads, on a machine that may be busy.
describe('a stored field of a wrong type or size', { timeout: 120_000 }, () => {
  test('ends the session, whichever it is, and pages hear why (ST-08)', async () => {
    const { store, plant, problems, now } = await createDisk()
    const whole: Required<ActiveRecord> = {
      ...activeRecord(now),
      subject: 'alice',
      params: { organization: 'o' },
      idToken: 'i',
      hintRefused: true,
      accessToken: 'a',
      accessTokenExpiresAt: now,
      accessTokenRefused: now,
      refreshToken: 'r',
      refreshSentAt: now,
      retry: { failures: 1, notBefore: now, asked: true, refused: { first: now, last: now } },
      silentLoginWorks: true,
      silentLoginFailed: { times: 1, at: now },
      user: 'u',
      usersChanged: true,
      loggedOut: 1,
      loginRequired: true,
      dpopKey: { jkt: 'k', jwk },
      lastEnd: 'e',
      lastSignOut: 's',
    }
    const fields: Fields<ActiveRecord> = {
      status: ['over', 5, null, undefined, {}, endless],
      generation: notTime,
      session: notSecret,
      since: notTime,
      claims: [...notMap, undefined],
      subject: notText,
      scope: notSecret,
      params: [...notMap, { organization: 5 }],
      idToken: notText,
      hintRefused: notFlag,
      // It goes into a header.
      accessToken: [...notText, 'ä', 'a\nb'],
      accessTokenIssuedAt: notTime,
      accessTokenExpiresAt: notNumber,
      accessTokenRefused: notNumber,
      refreshToken: notText,
      refreshSentAt: notNumber,
      retry: [
        ...notMap,
        ...within<object>(whole.retry, {
          ...{ failures: notTime, notBefore: notTime, asked: notFlag },
          refused: [
            ...notMap,
            ...within<object>({ first: now, last: now }, {
              ...{ first: notTime, last: notTime },
            } as Fields<object>),
          ],
        } as Fields<object>),
      ],
      silentLoginWorks: notFlag,
      silentLoginFailed: [
        ...notMap,
        ...within<object>(whole.silentLoginFailed, {
          ...{ times: notTime, at: notTime },
        } as Fields<object>),
      ],
      user: notText,
      usersChanged: notFlag,
      loggedOut: notNumber,
      loginRequired: notFlag,
      protocolEndpoints: [
        ...['x', 5, null, undefined, {}, endless, [5], [null], [flood], new Array(3)],
        new Array(20_000).fill('https://login.example/token'),
      ],
      dpopKey: wrongKey,
      lastEnd: notText,
      lastSignOut: notText,
    }
    await plant('session', 'current', whole)
    expect(await store.read()).toEqual(whole)
    await forEachWrong(whole, fields, async (spoilt, what) => {
      problems.length = 0
      await plant('session', 'current', spoilt)
      expect(await store.read(), what).toBeUndefined()
      expect(problems, what).toEqual(['storage_failed'])
      expect(await store.read(), what).toMatchObject({
        status: 'ended',
        reason: 'storage_cleared',
      })
    })
  })

  test('of a session that has ended makes it one that nobody knows of (ST-08)', async () => {
    const { store, plant, problems } = await createDisk()
    const whole: Required<EndedRecord> = {
      ...{ status: 'ended', generation: 1, reason: 'logout', user: 'u', usersChanged: true },
      ...{ lastEnd: 'e', lastSignOut: 's', code: 'login_required', loggedOut: 1 },
    }
    const fields: Fields<EndedRecord> = {
      status: ['over', 5, null, undefined, {}],
      generation: notTime,
      reason: notSecret,
      code: notText,
      user: notText,
      usersChanged: notFlag,
      loggedOut: notNumber,
      lastEnd: notText,
      lastSignOut: notText,
    }
    await plant('session', 'current', whole)
    expect(await store.read()).toEqual(whole)
    await forEachWrong(whole, fields, async (spoilt, what) => {
      problems.length = 0
      await plant('session', 'current', spoilt)
      expect(await store.read(), what).toBeUndefined()
      expect(problems, what).toEqual(['storage_failed'])
    })
  })

  test('makes a sign-in under way one that is not there (CB-12)', async () => {
    const { store, plant, now } = await createDisk()
    const sent: Required<RequestSecrets> = {
      ...{ nonce: 'n', verifier: 'v', redirectUri: 'r', dpopKey: { jkt: 'k', jwk } },
    }
    const whole: Required<DepartedTransaction> = {
      ...{ kind: 'login', createdAt: now, returnTo: 'https://app.example/' },
      ...{ params: { prompt: 'login' }, session: 's', generation: 1, report: 'r', sent },
      hintless: true,
    }
    const fields: Fields<DepartedTransaction> = {
      kind: notSecret,
      createdAt: notTime,
      returnTo: [...notSecret, 'https://evil.example/'],
      params: [...notMap, { prompt: 5 }],
      session: notText,
      generation: notNumber,
      hintless: notFlag,
      report: notText,
      sent: [
        ...notMap,
        ...within<RequestSecrets>(sent, {
          ...{ nonce: notSecret, verifier: notSecret, redirectUri: notSecret },
          dpopKey: wrongKey,
        }),
      ],
    }
    await plant('transactions', 'key', whole)
    expect(await store.readTransaction('key')).toEqual(whole)
    await forEachWrong(whole, fields, async (spoilt, what) => {
      await plant('transactions', 'key', spoilt)
      expect(await store.readTransaction('key'), what).toBeUndefined()
    })
  })

  test('makes the outcome of a sign-in one that is not there (CB-12)', async () => {
    const { store, plant, now } = await createDisk()
    const whole: Required<Outcome> = {
      ...{ kind: 'outcome', createdAt: now, returnTo: 'https://app.example/' },
      ...{ result: { error: { code: 'timeout', message: 'm' } }, login: 'x' },
    }
    const fields: Fields<Outcome> = {
      // Another text makes it something else, which has no result.
      kind: notSecret,
      createdAt: notTime,
      returnTo: notSecret,
      result: [
        ...[5, null, undefined, [], endless, {}, { error: 'x' }, { error: { code: 'timeout' } }],
        ...[{ error: { code: 5, message: 'm' } }, { error: { code: 'x', message: flood } }],
      ],
      login: notText,
    }
    await plant('transactions', 'key', whole)
    expect(await store.readTransaction('key')).toEqual(whole)
    await forEachWrong(whole, fields, async (spoilt, what) => {
      await plant('transactions', 'key', spoilt)
      expect(await store.readTransaction('key'), what).toBeUndefined()
    })
  })

  test('makes what is kept of the server be asked for anew (CB-12)', async () => {
    const { store, plant, now } = await createDisk()
    const metadata = {
      issuer: 'https://login.example',
      id_token_signing_alg_values_supported: ['RS256'],
      authorization_response_iss_parameter_supported: true,
      require_pushed_authorization_requests: true,
      later: { of: ['any', 'kind', 5, null] },
    }
    const stored: StoredMetadata = { metadata, fetchedAt: now }
    const wrongMetadata: Fields<StoredMetadata> = {
      metadata: [
        ...notMap,
        undefined,
        ...within(metadata, {
          issuer: notSecret,
          id_token_signing_alg_values_supported: ['RS256', 5, null, {}, [5], endless],
          authorization_response_iss_parameter_supported: notFlag,
          require_pushed_authorization_requests: notFlag,
          later: [flood, endless, { a: [endless] }, new Uint8Array(2_000_001)],
        }),
      ],
      fetchedAt: notTime,
    }
    await plant('server', 'metadata', stored)
    expect(await store.readMetadata()).toEqual(stored)
    await forEachWrong(stored, wrongMetadata, async (spoilt, what) => {
      await plant('server', 'metadata', spoilt)
      expect(await store.readMetadata(), what).toBeUndefined()
    })

    // test/server/jwks.test.ts: what is wrong within a key makes it none.
    const keys: Required<StoredKeys> = {
      keys: [{ kty: 'EC' }, { kty: 'RSA' }],
      fetchedAt: now,
      inVain: true,
    }
    const tooMany = new Array(20_000).fill({ kty: 'EC' })
    const wrongKeys: Fields<StoredKeys> = {
      keys: ['x', 5, null, undefined, {}, endless, [flood], [{ n: endless }], tooMany],
      fetchedAt: notTime,
      inVain: notFlag,
    }
    await plant('server', 'keys', keys)
    expect(await store.readKeys()).toEqual(keys)
    await forEachWrong(keys, wrongKeys, async (spoilt, what) => {
      await plant('server', 'keys', spoilt)
      expect(await store.readKeys(), what).toBeUndefined()
    })

    const dpop: DpopState = { nonces: { 'https://api.example': 'n' } }
    const wrongDpop: Omit<Fields<DpopState>, 'probe'> = { nonces: [...notMap, undefined] }
    await plant('server', 'dpop', dpop)
    expect(await store.readDpop()).toEqual(dpop)
    await forEachWrong({ nonces: {} }, wrongDpop, async (spoilt, what) => {
      await plant('server', 'dpop', spoilt)
      expect(await store.readDpop(), what).toBeUndefined()
    })
  })

  test('is noticed at any depth, without going through all of it', async () => {
    const { store, plant, now } = await createDisk()
    let deep: unknown = {}
    for (let level = 0; level < 1_500; level++) deep = { deep }
    const circle: Record<string, unknown> = {}
    circle['circle'] = circle
    for (const claims of [
      { deep },
      circle,
      { list: [[endless]] },
      { bytes: new ArrayBuffer(3e6) },
    ]) {
      await plant('session', 'current', { ...activeRecord(now), claims })
      expect(await store.read()).toBeUndefined()
    }
    const claims = { length: 5, groups: new Array(20_000).fill('a group of the user') }
    await plant('session', 'current', { ...activeRecord(now), claims })
    expect(await store.read()).toMatchObject({ status: 'active' })
  })
})
