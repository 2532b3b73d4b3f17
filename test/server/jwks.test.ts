import { describe, expect, test } from 'vitest'
import { jwks } from '../../sw/server/jwks.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { randomId } from '../../sw/values/random-id.js'
import { type FakeServerOptions, json } from '../support/fake-authorization-server.js'
import { withoutRedirects } from '../support/hostile-authorization-server.js'
import { createSigningKey, type SigningKey } from '../support/signing-keys.js'
import { createUnitWorld } from '../support/worker-parts.js'

const minute = 60_000
const day = 24 * 60 * minute
const algorithms = ['RS256', 'RS512', 'PS256', 'PS384', 'ES256', 'ES384', 'ES512', 'EdDSA']
const first = createSigningKey('RS256', 'first')
const second = createSigningKey('RS256', 'second')
const elliptic = createSigningKey('ES256', 'elliptic')

const createWorld = (options: FakeServerOptions = {}) => {
  let down = false
  /** What the server signs with, and what it publishes. */
  const now = { signing: first, published: [first.jwk] as unknown }
  const world = createUnitWorld({
    options: { idTokenSignature: jwks() },
    server: {
      sign: (claims, header) => now.signing.sign(claims, header),
      keys: () => json({ keys: now.published }),
      ...options,
      metadata: { id_token_signing_alg_values_supported: [...algorithms], ...options.metadata },
    },
  })
  const { server, browser } = world
  const start = () => {
    const worker = world.createWorker({
      fetch: async (input, init) => {
        if (down && String(input) === server.metadata.jwks_uri)
          throw new TypeError('Failed to fetch')
        return await withoutRedirects(server.fetch)(input, init)
      },
    })
    const { authorizationServer: as } = worker
    const state = randomId()
    const secrets = as.newSecrets()
    return {
      ...worker,
      /** How a sign-in ends, as far as the server goes: its subject, or an error's code. */
      signIn: async (): Promise<string | undefined> => {
        const back = server.authorize(await as.authorizationUrl({ state, secrets, params: {} }))
        try {
          return (await as.redeem({ params: back.searchParams, state, secrets })).subject
        } catch (cause) {
          expect(cause).toHaveProperty('name', 'TokenError')
          return (cause as { code: string }).code
        }
      },
    }
  }
  return {
    ...{ ...world, ...start(), server, browser, start, now },
    fetches: () => server.requests.filter(({ url }) => url === server.metadata.jwks_uri),
    setDown: (value: boolean) => {
      down = value
    },
    rotate: (key: SigningKey) => {
      now.signing = key
      now.published = [key.jwk]
    },
  }
}

describe('a signature', () => {
  test.each(algorithms)('of %s that is right is taken (TK-08)', async (alg) => {
    const { rotate, signIn } = createWorld()
    rotate(createSigningKey(alg, 'a key'))
    expect(await signIn()).toBe('alice')
  })

  const signed = (change: (jwt: string) => string): FakeServerOptions => ({
    sign: (claims) => change(first.sign(claims)),
  })
  const header = (more: object): FakeServerOptions => ({
    sign: (claims) => first.sign(claims, { alg: 'RS256', kid: 'first', ...more }),
  })
  const published = (...keys: unknown[]): FakeServerOptions => ({ keys: () => json({ keys }) })
  const short = createSigningKey('RS256', 'first', { modulusLength: 1024 })
  const octets = { kty: 'oct', k: 'c2VjcmV0', kid: 'first', alg: 'RS256' }

  test.each<[string, FakeServerOptions]>([
    ['is of another key by the same name', { sign: createSigningKey('RS256', 'first').sign }],
    ['is of other claims', signed((jwt) => `${jwt.slice(0, -4)}AAAA`)],
    ['is cut off', signed((jwt) => jwt.slice(0, -10))],
    ['is missing', signed((jwt) => jwt.replace(/[^.]+$/, ''))],
    ['is no base64url', signed((jwt) => jwt.replace(/[^.]+$/, '%%%%'))],
    ['is of a key that nobody knows', header({ kid: 'unknown' })],
    [
      'names a key of another kind',
      { ...header({ alg: 'ES256' }), keys: () => json({ keys: [first.jwk] }) },
    ],
    ['is of an RSA key, and says PS256', header({ alg: 'PS256' })],
    ['brings its own key', { sign: (c) => second.sign(c, { alg: 'RS256', jwk: second.jwk }) }],
    [
      'says where its key is',
      {
        sign: (c) => second.sign(c, { alg: 'RS256', kid: 'second', jku: 'https://evil.example/' }),
      },
    ],
    ['is of a short key', { sign: short.sign, keys: () => json({ keys: [short.jwk] }) }],
    [
      'names no key, and there are two',
      { ...header({ kid: undefined }), keys: () => json({ keys: [first.jwk, second.jwk] }) },
    ],
    ['names a key that is there twice', published(first.jwk, first.jwk)],
    ['is of a key for encryption', published({ ...first.jwk, use: 'enc' })],
    [
      'is of a key that may not verify',
      published({ ...first.jwk, use: undefined, key_ops: ['encrypt'] }),
    ],
    ['is of a key for another algorithm', published({ ...first.jwk, alg: 'RS512' })],
    ['is of a key with half a modulus', published({ ...first.jwk, n: 'AQAB' })],
    ['meets a key that is a secret', published(octets)],
    ['meets keys that are none', published(null, 5, 'x', [], {})],
    ['meets no key at all', published()],
  ])('that %s is refused (TK-08)', async (_title, options) => {
    const { signIn, store } = createWorld(options)
    expect(await signIn()).toBe('invalid_id_token')
    expect(await store.read()).toBeUndefined()
  })

  test.each<[string, unknown[], object]>([
    ['that names no key, and there is one', [first.jwk], { kid: undefined }],
    [
      'that names no key, and there is one of its kind',
      [elliptic.jwk, first.jwk],
      { kid: undefined },
    ],
    ['with keys beside its own that are none', [null, octets, second.jwk, first.jwk], {}],
    [
      'with keys of its kind beside its own whose form is wrong',
      [
        ...['x', {}, 5].map((key_ops) => ({ ...second.jwk, kid: 'first', key_ops })),
        { ...second.jwk, kid: ['first'] },
        first.jwk,
      ],
      {},
    ],
    ['of a key that says little', [{ ...first.jwk, alg: undefined, use: undefined }], {}],
  ])('%s is taken (TK-08)', async (_title, keys, more) => {
    const { signIn } = createWorld({ ...header(more), ...published(...keys) })
    expect(await signIn()).toBe('alice')
  })

  test('is not looked at without the option', async () => {
    const { server, createWorker } = createUnitWorld()
    const { authorizationServer: as } = createWorker()
    const secrets = as.newSecrets()
    const back = server.authorize(await as.authorizationUrl({ state: 's', secrets, params: {} }))
    const answer = await as.redeem({ params: back.searchParams, state: 's', secrets })
    expect(answer).toHaveProperty('subject', 'alice')
    expect(server.requests.map(({ url }) => url)).not.toContain(server.metadata.jwks_uri)
  })
})

describe('the keys', () => {
  test('are fetched once, without cookies, cache, redirect or referrer (TK-01)', async () => {
    const { signIn, fetches } = createWorld()
    await signIn()
    await signIn()
    expect(fetches()).toHaveLength(1)
    expect(fetches()[0]?.init).toMatchObject({
      mode: 'cors',
      credentials: 'omit',
      cache: 'no-store',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
      signal: expect.any(AbortSignal),
    })
  })

  test('outlive a worker, and a time in which they cannot be had (TK-08)', async () => {
    const { browser, signIn, start, setDown, fetches } = createWorld()
    await signIn()
    setDown(true)
    expect(await start().signIn()).toBe('alice')
    expect(fetches()).toHaveLength(1)
    // Too old, but still what the server has said last.
    await browser.pass(2 * day)
    expect(await start().signIn()).toBe('alice')
  })

  test('are fetched again after a day: one may have been withdrawn (TK-08)', async () => {
    const { browser, signIn, now, fetches } = createWorld()
    await signIn()
    now.published = [second.jwk]
    await browser.pass(day - 1)
    expect(await signIn()).toBe('alice')
    await browser.pass(1)
    expect(await signIn()).toBe('invalid_id_token')
    expect(fetches()).toHaveLength(2)
  })

  test('are fetched again at once for one that is new, as often as they change (TK-08)', async () => {
    const { signIn, start, rotate, fetches } = createWorld()
    await signIn()
    rotate(second)
    expect(await signIn()).toBe('alice')
    rotate(createSigningKey('RS256', 'third'))
    expect(await start().signIn()).toBe('alice')
    expect(fetches()).toHaveLength(3)
  })

  test('are fetched again after a minute where that has brought none that fits (TK-08)', async () => {
    const { browser, signIn, rotate, now, fetches } = createWorld()
    await signIn()
    now.signing = second
    expect(await signIn()).toBe('invalid_id_token')
    rotate(second)
    await browser.pass(minute - 1)
    expect(await signIn()).toBe('invalid_id_token')
    expect(fetches()).toHaveLength(2)
    await browser.pass(1)
    expect(await signIn()).toBe('alice')
    expect(fetches()).toHaveLength(3)
  })

  test('that have no name are fetched again for a signature that is wrong (TK-08)', async () => {
    const { browser, signIn, rotate, fetches } = createWorld()
    rotate(createSigningKey('RS256'))
    await signIn()
    rotate(createSigningKey('RS256'))
    await browser.pass(minute)
    expect(await signIn()).toBe('alice')
    expect(fetches()).toHaveLength(2)
  })

  test('are not hammered for by names that nobody knows, restarts or not (TK-08)', async () => {
    const { browser, signIn, start, now, fetches } = createWorld()
    await signIn()
    now.signing = createSigningKey('RS256', 'made up')
    for (let round = 1; round <= 3; round++) {
      await browser.pass(minute)
      const ends = await Promise.all(Array.from({ length: 5 }, signIn))
      expect(new Set(ends)).toEqual(new Set(['invalid_id_token']))
      expect(await start().signIn()).toBe('invalid_id_token')
      expect(fetches()).toHaveLength(1 + round)
    }
  })

  test.each<[string, FakeServerOptions['keys']]>([
    ['not found', () => new Response('', { status: 404 })],
    ['HTML', () => new Response('<html>')],
    ['more than 256 KiB', () => json({ keys: [first.jwk], x: 'x'.repeat(262_144) })],
    ['no key set', () => json({ keys: 'none' })],
    ['a list', () => json([first.jwk])],
    ['elsewhere', () => Response.redirect('https://evil.example/', 302)],
    ['not to be had', () => Promise.reject(new TypeError('Failed to fetch'))],
  ])('that are %s let a sign-in fail, and say so (TK-08)', async (_title, keys) => {
    const { signIn, store } = createWorld({ keys })
    expect(await signIn()).toBe('metadata_unreachable')
    expect(await store.readKeys()).toBeUndefined()
  })

  test('that the server does not name are a matter of its settings (TK-08)', async () => {
    const { signIn } = createWorld({ metadata: { jwks_uri: undefined } })
    expect(await signIn()).toBe('invalid_configuration')
  })

  test.each<[string, object]>([
    ['keys that are none', { keys: 5, fetchedAt: Date.now() }],
    ['no keys', { fetchedAt: Date.now() }],
    ['null for a key', { keys: [null], fetchedAt: 0 }],
    ['a time that is none', { keys: [second.jwk], fetchedAt: Number.NaN }],
  ])('are fetched where the database has %s (CB-12)', async (_title, record) => {
    const { signIn, store } = createWorld()
    const db = await new Promise<IDBDatabase>((resolve) => {
      store.read().then(() => {
        const request = indexedDB.open(store.name)
        request.onsuccess = () => resolve(request.result)
      })
    })
    const tx = db.transaction('server', 'readwrite')
    tx.objectStore('server').put(record, 'keys')
    await new Promise((resolve) => {
      tx.oncomplete = resolve
    })
    db.close()
    expect(await signIn()).toBe('alice')
  })
})

describe('at a refresh', () => {
  const refreshed = async (change: (world: ReturnType<typeof createWorld>) => void) => {
    const world = createWorld({ claims: { name: 'Ada' } })
    await world.signIn()
    const before = await world.store.update(() => ({
      status: 'active',
      generation: 0,
      session: 's',
      since: 0,
      claims: { sub: 'alice', name: 'Alice' },
      subject: 'alice',
      scope: 'openid',
      accessTokenIssuedAt: 0,
      refreshToken: world.server.refreshToken(),
      protocolEndpoints: [],
    }))
    await world.browser.pass(minute)
    change(world)
    const { kind } = await world.renewal.renew({ spoiled: undefined, impatient: true })
    const after = (await world.store.read()) as ActiveRecord
    return { before: before.after as ActiveRecord, after, kind, events: world.events, world }
  }

  test('a right signature brings new claims (TK-08)', async () => {
    const { after, events } = await refreshed(() => {})
    expect(after.claims).toHaveProperty('name', 'Ada')
    expect(events.map(({ type }) => type)).not.toContain('problem')
  })

  test.each<[string, (world: ReturnType<typeof createWorld>) => void, string]>([
    [
      'an unknown key',
      ({ now }) => {
        now.signing = second
      },
      'invalid_id_token',
    ],
    [
      'a new key that cannot be had',
      ({ now, setDown }) => {
        now.signing = second
        setDown(true)
      },
      'metadata_unreachable',
    ],
    [
      'a wrong signature',
      ({ now }) => {
        now.signing = createSigningKey('RS256', 'first')
      },
      'invalid_id_token',
    ],
  ])(
    '%s costs neither session nor tokens, only the claims stay old (RF-12)',
    async (_t, change, code) => {
      const { before, after, kind, events, world } = await refreshed(change)
      expect(kind).toBe('token')
      expect(after).toMatchObject({
        status: 'active',
        session: before.session,
        claims: before.claims,
      })
      expect(after.refreshToken).toBe(world.server.refreshToken())
      expect(after.accessToken).toBeDefined()
      expect(events).toContainEqual({ type: 'problem', error: expect.objectContaining({ code }) })
    },
  )
})
