import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import type { Page } from 'playwright-core'
import { beforeEach, describe, expect, test } from 'vitest'
import type { ActiveRecord } from '../../sw/session/records.js'
import { anyServer } from '../support/strict-policy.js'
import {
  authorizationsAt,
  eventsIn,
  expireToken,
  fetchIn,
  heard,
  openAndSignIn,
  refreshesAt,
  requestsTo,
  sessionIn,
  signIn,
  startWorld,
  stopWorkers,
  useWorld,
  type World,
} from '../support/world.js'

const workerOptions = 'dpop: tokenward.dpop(),'

/** Nonces are demanded at the token endpoint and at userinfo, and here at the API. */
const world = useWorld({ workerOptions, server: { dpopNonce: true, consentRemembered: true } })

beforeEach(() => {
  world.useWorker(`apis: ['${world.api.url}/', '/api/', '${world.as.issuer}/userinfo'],`)
  world.api.setDpopNonce('api-nonce-1')
  world.api.hideHeaders('')
})

const me = (page: Page, { api }: World = world) => fetchIn(page, `${api.url}/me`)
const asAlice = { status: 200, body: { sub: 'alice' } }

const tokenRequests = ({ as }: World = world) =>
  as.requests.filter(({ path, method }) => path === '/token' && method === 'POST')

/** What any script of the origin can read: the record, and whether its key can be taken out. */
const stolenFrom = (page: Page, { databaseName }: World = world) =>
  page.evaluate(async (name) => {
    const opening = indexedDB.open(name)
    await new Promise((resolve) => {
      opening.onsuccess = resolve
    })
    const db = opening.result
    const reading = db.transaction('session').objectStore('session').get('current')
    await new Promise((resolve) => {
      reading.onsuccess = resolve
    })
    db.close()
    const { accessToken, refreshToken, dpopKey } = reading.result as ActiveRecord
    const key = dpopKey?.privateKey
    const exported = await Promise.all(
      (['jwk', 'pkcs8', 'raw'] as const).map(
        (format) => key && crypto.subtle.exportKey(format, key).catch((error) => error.name),
      ),
    )
    return { accessToken, refreshToken, jkt: dpopKey?.jkt, exported }
  }, databaseName)

/** Is there a CryptoKey anywhere in the database? */
const countKeys = (page: Page) =>
  page.evaluate(async (name) => {
    const opening = indexedDB.open(name)
    await new Promise((resolve) => {
      opening.onsuccess = resolve
    })
    const db = opening.result
    let keys = 0
    const look = (value: unknown) => {
      if (value instanceof CryptoKey) keys++
      else if (typeof value === 'object') Object.values(value ?? {}).forEach(look)
    }
    for (const store of db.objectStoreNames) {
      const reading = db.transaction(store).objectStore(store).getAll()
      await new Promise((resolve) => {
        reading.onsuccess = resolve
      })
      look(reading.result)
    }
    db.close()
    return keys
  }, world.databaseName)

/** A proof by somebody else, all in order but for the key. */
const forge = (
  { privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject },
  claims: { htm: string; htu: string; nonce?: string },
  accessToken?: string,
) => {
  const { crv, kty, x, y } = publicKey.export({ format: 'jwk' })
  const all = {
    ...claims,
    jti: randomUUID(),
    iat: Math.floor(Date.now() / 1000),
    ...(accessToken && { ath: createHash('sha256').update(accessToken).digest('base64url') }),
  }
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: { crv, kty, x, y } }
  const input = [header, all]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
  return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`
}

describe('with a key that cannot leave the browser', () => {
  test('a user signs in, calls an API, renews, and calls it again (DP-02, DP-04, DP-06, DP-09)', async () => {
    const page = await openAndSignIn(world)
    const { jkt } = await stolenFrom(page)
    const [asked] = authorizationsAt(world.as)
    expect(new URLSearchParams(asked?.query).get('dpop_jkt')).toBe(jkt)
    // Once for the nonce.
    expect(tokenRequests().map(({ status }) => status)).toEqual([400, 200])
    expect(await me(page)).toMatchObject({ status: 200, body: { sub: 'alice', jkt } })
    expect(requestsTo(world.api, '/me')).toMatchObject([
      { authorization: 'dpop', status: 401 },
      { authorization: 'dpop', status: 200 },
    ])
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    world.api.clearRequests()
    expect(await me(page)).toMatchObject({ status: 200, body: { sub: 'alice', jkt } })
    expect(requestsTo(world.api, '/me')).toMatchObject([{ status: 200 }])
    expect((await eventsIn(page)).filter((event) => event.startsWith('problem'))).toEqual([])
  })

  test('the server’s own resource is called with its nonces (DP-06, DP-07)', async () => {
    world.usePolicy(anyServer)
    const page = await openAndSignIn(world)
    for (let i = 0; i < 2; i++) {
      expect(await fetchIn(page, `${world.as.issuer}/userinfo`)).toMatchObject(asAlice)
    }
    // The nonce of this origin is known from the sign-in.
    const calls = world.as.requests.filter(
      ({ path, method }) => path === '/userinfo' && method === 'GET',
    )
    expect(calls.map(({ status }) => status)).toEqual([200, 200])
  })

  test('on the own origin, the proof is for the URL as it was sent (DP-02)', async () => {
    const page = await openAndSignIn(world)
    expect(await fetchIn(page, '/api/me?a=1#b')).toMatchObject(asAlice)
  })

  test('a megabyte is sent again whole for a new nonce, and nothing is renewed (DP-06)', async () => {
    const page = await openAndSignIn(world)
    await me(page)
    world.api.setDpopNonce('api-nonce-2')
    world.api.clearRequests()
    const text = '0123456789abcde\n'.repeat(65_536)
    const url = `${world.api.url}/orders/1`
    const answer = await fetchIn(page, url, { method: 'PUT', body: text })
    expect(answer).toMatchObject({ status: 200, body: { size: text.length } })
    expect(requestsTo(world.api, '/orders/1')).toMatchObject([{ status: 401 }, { status: 200 }])
    expect(refreshesAt(world.as)).toEqual([])
  })

  test('a request with a DPoP header of its own is left alone, and no redirect takes a proof elsewhere (IN-06, IN-10)', async () => {
    const page = await openAndSignIn(world)
    const headers = { DPoP: 'made up' }
    expect(await fetchIn(page, `${world.api.url}/me`, { headers })).toMatchObject({ status: 401 })
    expect(requestsTo(world.api, '/me')).toMatchObject([{ authorization: 'none' }])
    world.sameOriginApi.clearRequests()
    const to = encodeURIComponent(`${world.site.origin}/api/echo`)
    expect(await fetchIn(page, `${world.api.url}/redirect?to=${to}`)).toEqual({
      error: 'TypeError',
    })
    expect(world.sameOriginApi.requests).toEqual([])
  })

  test('a nonce that CORS hides makes one request more at most, and a problem (DP-06)', async () => {
    const page = await openAndSignIn(world)
    world.api.hideHeaders('dpop-nonce www-authenticate')
    expect(await me(page)).toMatchObject({ status: 401 })
    expect(requestsTo(world.api, '/me')).toHaveLength(2)
    await heard(page, 'problem cors_expose_headers')
    expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })
  })

  test('a worker that was stopped has its key and its nonces again (DP-07, DP-10)', async () => {
    const page = await openAndSignIn(world)
    await me(page)
    const { jkt } = await stolenFrom(page)
    await stopWorkers(page)
    world.api.clearRequests()
    world.as.clearRequests()
    expect(await me(page)).toMatchObject({ status: 200, body: { jkt } })
    expect(requestsTo(world.api, '/me')).toMatchObject([{ status: 200 }])
    await stopWorkers(page)
    await page.evaluate(() => window.auth.renew())
    expect(tokenRequests()).toMatchObject([{ status: 200 }])
    expect((await stolenFrom(page)).jkt).toBe(jkt)
  })

  test('a page can read the tokens and not the key, and without it they are refused everywhere (DP-01, DP-04)', async () => {
    const page = await openAndSignIn(world)
    expect(await me(page)).toMatchObject(asAlice)
    const { accessToken = '', refreshToken = '', exported } = await stolenFrom(page)
    expect(exported).toEqual(Array(3).fill('InvalidAccessError'))
    const thief = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const url = `${world.api.url}/me`
    const claims = { htm: 'GET', htu: url, nonce: 'api-nonce-1' }
    const attempts: Record<string, string>[] = [
      { authorization: `Bearer ${accessToken}` },
      { authorization: `DPoP ${accessToken}` },
      { authorization: `DPoP ${accessToken}`, dpop: forge(thief, claims, accessToken) },
    ]
    for (const headers of attempts) {
      expect((await fetch(url, { headers })).status).toBe(401)
    }
    const endpoint = `${world.as.issuer}/token`
    const body = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: refreshToken,
      client_id: world.clientId,
    })
    const refresh = async (nonce?: string) => {
      const dpop = forge(thief, { htm: 'POST', htu: endpoint, ...(nonce && { nonce }) })
      return await fetch(endpoint, { method: 'POST', body, headers: { dpop } })
    }
    expect((await fetch(endpoint, { method: 'POST', body })).status).toBe(400)
    const nonce = (await refresh()).headers.get('dpop-nonce') ?? ''
    const answer = await refresh(nonce)
    expect([answer.status, (await answer.json()).error]).toEqual([400, 'invalid_grant'])
    // With the key, they go on to be good.
    await page.evaluate(() => window.auth.renew())
    expect(await me(page)).toMatchObject(asAlice)
  })

  test('signing out destroys the key, and the next sign-in has another one (DP-11)', async () => {
    const page = await openAndSignIn(world)
    const { jkt } = await stolenFrom(page)
    expect(await countKeys(page)).toBe(1)
    await page.evaluate(() => window.auth.logout({ local: true }))
    expect(await countKeys(page)).toBe(0)
    await signIn(page)
    const { jkt: next } = await stolenFrom(page)
    expect(next).toEqual(expect.any(String))
    expect(next).not.toBe(jkt)
  })

  test('a silent login brings a token for the same key (DP-10)', async () => {
    const page = await openAndSignIn(world)
    const { jkt } = await stolenFrom(page)
    await expireToken(world, page)
    world.as.revokeRefreshTokens()
    expect(await me(page)).toMatchObject({ status: 200, body: { jkt } })
    expect(authorizationsAt(world.as).at(-1)?.query).toContain('prompt=none')
    // Of a dead token, the second answer is believed.
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([400, 400])
  })
})

/** A page with an expired token, whose worker has just had an answer on a connection it keeps. */
const openWarm = async (world: World): Promise<Page> => {
  const page = await openAndSignIn(world)
  await page.evaluate(() => window.auth.renew())
  await expireToken(world, page)
  world.as.clearRequests()
  world.as.setFault({ path: '/token', grantType: 'refresh_token', kind: 'drop-after', times: 1 })
  return page
}

describe('an answer that is lost on a connection that was used before', () => {
  test('is asked for by the browser with the same proof, and then by the worker with a new one', async () => {
    const page = await openWarm(world)
    expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([0, 400, 200])
    expect(authorizationsAt(world.as)).toEqual([])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })
  })

  test('where the server rotates each time, a silent login repairs it (RF-07)', async () => {
    const server = { dpopNonce: true, consentRemembered: true, rotate: 'always' } as const
    const rotating = await startWorld({ workerOptions, server })
    try {
      const page = await openWarm(rotating)
      expect(await me(page, rotating)).toMatchObject(asAlice)
      expect(refreshesAt(rotating.as).map(({ status }) => status)).toEqual([0, 400, 400])
      expect(authorizationsAt(rotating.as)).toHaveLength(1)
      await page.evaluate(() => window.auth.renew())
      expect(await me(page, rotating)).toMatchObject(asAlice)
    } finally {
      await rotating.close()
    }
  })
})
