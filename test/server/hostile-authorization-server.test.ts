import { describe, expect, test } from 'vitest'
import { arrivalOf } from '../../sw/http/arrival.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { json } from '../support/fake-authorization-server.js'
import {
  answerVariants,
  halfHash,
  idTokenVariants,
  metadataVariants,
  type RefreshEnd,
  type SignInEnd,
  sendAnswer,
  sendIdToken,
  withoutRedirects,
} from '../support/hostile-authorization-server.js'
import { createUnitWorld, readDatabase, type WorldOptions } from '../support/worker-parts.js'

// What users and apps meet when the authorization server, or whoever answers in its place, does
// something wrong: each variant at a first sign-in, at one more while somebody is signed in, and at
// a refresh.

const app = 'https://app.example/'
const scope = 'openid offline_access'

const createWorld = (options: WorldOptions = {}) => {
  const world = createUnitWorld({ ...options, options: { scope, ...options.options } })
  const { browser, server } = world

  /** One worker; a second call is the same worker after a restart. */
  const start = (fetch = withoutRedirects(server.fetch)) => {
    const worker = world.createWorker({ fetch })
    const { login, callback, transactions, renewal } = worker
    const visit = (url: string | URL) =>
      arrivalOf({ method: 'GET', destination: 'document', url: String(url) } as Request, {
        waitUntil: () => {},
        resultingClientId: 'page-1',
      })

    /** Leaves for the server; the answer is its URL, or the app's with an error. */
    const leave = async (params?: Record<string, string>): Promise<string> => {
      const { url } = await login.begin({ returnTo: app, params })
      return (await login.leave(visit(url), 'login')).headers.get('location') ?? ''
    }
    const told = async () => {
      const result = await transactions.takeForPage('page-1')
      return typeof result === 'object' ? result.error.code : undefined
    }

    return {
      ...worker,
      leave,
      told,
      /** How a visit to the callback ends. */
      arrive: async (url: string | URL): Promise<SignInEnd> => {
        await callback(visit(url))
        return (await told()) ?? 'signed in'
      },
      /** All the way. */
      signIn: async (params?: Record<string, string>): Promise<SignInEnd> => {
        const url = await leave(params)
        if (!url.startsWith(server.issuer)) return (await told()) ?? 'nothing'
        await callback(visit(server.authorize(url)))
        return (await told()) ?? 'signed in'
      },
      renew: async (): Promise<RefreshEnd> => {
        const before = (await worker.store.read()) as ActiveRecord
        worker.events.length = 0
        const result = await renewal.renew({ spoiled: before.accessToken, impatient: true })
        if (result.kind === 'unavailable') {
          return result.error.code === 'user_changed' ? 'ended' : 'kept'
        }
        if (result.kind !== 'token') return 'ended'
        return worker.events.some(({ type }) => type === 'problem') ? 'problem' : 'renewed'
      },
      stored: async () => (await worker.store.read()) as ActiveRecord | undefined,
      database: async () => JSON.stringify(await readDatabase(worker.store.name)),
    }
  }

  return { ...start(), browser, server, config: world.config, start }
}

type World = ReturnType<typeof createWorld>

/** A sign-in that fails leaves nothing of itself, and what was there as it was. */
const expectSignIn = async (
  { server, signIn, stored, database, start }: World,
  arrange: () => void,
  end: SignInEnd,
) => {
  arrange()
  expect(await signIn()).toBe(end)
  if (end === 'signed in') {
    expect(await stored()).toMatchObject({ status: 'active', refreshToken: server.refreshToken() })
    return
  }
  expect(await stored()).toBeUndefined()
  const left = await database()
  for (const secret of server.secrets) expect(left).not.toContain(secret)

  expect(await signIn()).toBe('signed in')
  const before = await stored()
  arrange()
  expect(await start().signIn()).toBe(end)
  expect(await stored()).toEqual(before)
}

/** How a refresh goes, and what is left of session, claims and refresh token. */
const expectRefresh = async (
  { browser, server, config, signIn, renew, stored, start }: World,
  arrange: () => void,
  end: RefreshEnd,
) => {
  expect(await signIn()).toBe('signed in')
  const before = await stored()
  server.options.claims = { name: 'Ada' }
  arrange()
  expect(await renew()).toBe(end)
  const after = await stored()
  if (end === 'ended') {
    expect(after).toMatchObject({ status: 'ended', reason: 'user_changed' })
    return
  }
  expect(after).toMatchObject({ status: 'active', subject: 'alice', session: before?.session })
  expect(after?.claims['sub']).toBe('alice')
  if (end === 'kept') {
    expect(after?.refreshToken).toBe(before?.refreshToken)
    expect(after?.accessToken).toBe(before?.accessToken)
    // The worker goes on with what it has, and the next answer heals everything.
    await browser.pass(3_600_000)
    server.setGrant({ ...before, clientId: config.clientId, subject: 'alice' })
    expect(await start().renew()).toMatch(/renewed|problem/)
    return
  }
  expect(after?.refreshToken).toBe(server.refreshToken())
  expect(after?.accessToken).not.toBe(before?.accessToken)
}

/** For `test.each`: what it is, how it ends, the requirements, and the variant itself. */
const rowsOf = <Variant extends { title: string }>(
  variants: readonly Variant[],
  endOf: (variant: Variant) => string,
) =>
  variants.map((variant) => {
    const [, title = '', ids = ''] = /^(.*?)( \([A-Z][^(]*\))?$/.exec(variant.title) ?? []
    return [title, endOf(variant), ids, variant] as const
  })

describe('an ID token at a sign-in', () => {
  const rows = rowsOf(idTokenVariants, ({ signIn }) => signIn)
  test.each(rows)('%s: %s (TK-06)%s', async (_title, _end, _ids, variant) => {
    const world = createWorld()
    await expectSignIn(world, () => sendIdToken(world.server, variant), variant.signIn)
    expect({}).not.toHaveProperty('polluted')
  })
})

describe('an ID token at a refresh', () => {
  const rows = rowsOf(idTokenVariants, ({ refresh }) => refresh)
  test.each(rows)('%s: %s (RF-12)%s', async (_title, _end, _ids, variant) => {
    const world = createWorld()
    await expectRefresh(world, () => sendIdToken(world.server, variant), variant.refresh)
    const { claims } = (await world.stored()) ?? {}
    if (variant.refresh === 'problem') expect(claims).not.toHaveProperty('name')
    expect({}).not.toHaveProperty('polluted')
    expect(claims ?? {}).not.toHaveProperty('polluted')
  })
})

describe('the token endpoint answers a sign-in (TK-01 to TK-05, TK-11) with', () => {
  const rows = rowsOf(answerVariants, ({ signIn }) => signIn)
  test.each(rows)('%s: %s%s', async (_title, _end, _ids, variant) => {
    const world = createWorld()
    await expectSignIn(world, () => sendAnswer(world.server, variant), variant.signIn)
  })
})

describe('the token endpoint answers a refresh (TK-03, TK-04, RF-06) with', () => {
  const rows = rowsOf(answerVariants, ({ refresh }) => refresh)
  test.each(rows)('%s: %s%s', async (_title, _end, _ids, variant) => {
    const world = createWorld()
    await expectRefresh(world, () => sendAnswer(world.server, variant), variant.refresh)
  })
})

test('a scope that is narrower than asked for is told with the sign-in (TK-11)', async () => {
  const { events, signIn, stored } = createWorld({ server: { tokens: { scope: 'openid' } } })
  expect(await signIn()).toBe('signed in')
  expect(events).toMatchObject([{ type: 'signed-in', session: { scope: 'openid' } }])
  expect(await stored()).toHaveProperty('scope', 'openid')
})

describe('a body that drips', () => {
  /** One byte a second, for ever. */
  const drip = ({ browser, server }: World, type = 'application/json') => {
    let cancelled = false
    const body = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          await browser.platform().wait(1_000)
          if (!cancelled) controller.enqueue(new TextEncoder().encode(' '))
        },
        cancel: () => {
          cancelled = true
        },
      },
      { highWaterMark: 0 },
    )
    server.answers.push(({ init }) => {
      init.signal?.addEventListener('abort', () => {
        cancelled = true
      })
      return new Response(body, { headers: { 'content-type': type } })
    })
  }

  test('fails a sign-in after 15 s, the body included (TK-01)', async () => {
    const world = createWorld()
    const url = await world.leave()
    drip(world)
    let end: SignInEnd | undefined
    const arriving = world.arrive(world.server.authorize(url)).then((code) => {
      end = code
    })
    await world.browser.pass(14_999)
    expect(end).toBeUndefined()
    await world.browser.pass(1)
    await arriving
    expect(end).toBe('timeout')
    expect(await world.stored()).toBeUndefined()
  })

  test('fails a refresh after 15 s, and session and refresh token stay (TK-01, RF-06)', async () => {
    const world = createWorld()
    await world.signIn()
    const before = await world.stored()
    drip(world)
    const renewing = world.renew()
    await world.browser.pass(15_000)
    expect(await renewing).toBe('kept')
    expect((await world.stored())?.refreshToken).toBe(before?.refreshToken)
  })
})

describe('metadata at a first visit (TK-14)', () => {
  const rows = rowsOf(metadataVariants, ({ code }) => code)
  test.each(rows)('%s: %s, and nothing is asked there%s', async (_title, _end, _ids, variant) => {
    const { server, start } = createWorld()
    const hostile = start(
      withoutRedirects(async (input, init) => {
        const right = await server.fetch(input, init)
        return String(input).includes('/.well-known/') ? variant.answer(await right.json()) : right
      }),
    )
    expect(await hostile.signIn()).toBe(variant.code)
    expect(server.tokenRequests()).toEqual([])
    // Nor is anything kept of it: with the right metadata all is well.
    expect(await hostile.signIn()).toBe(variant.code)
    expect(await start().signIn()).toBe('signed in')
  })
})

describe('metadata that changes later', () => {
  const day = 24 * 3_600_000
  const evil = 'https://evil.example'

  test('and moves the token endpoint to another origin: the old one is used (TK-14)', async () => {
    const { browser, server, signIn, start, stored } = createWorld()
    await signIn()
    await browser.pass(day)
    const right = { ...server.metadata }
    Object.assign(server.metadata, { token_endpoint: `${evil}/token` })
    const { renew, events } = start(async (input, init) => {
      // The server still does its work where it always did.
      if (String(input) === right.token_endpoint)
        return server.grant({
          url: String(input),
          init: init ?? {},
          params: new URLSearchParams(String(init?.body)),
        })
      return await server.fetch(input, init)
    })
    expect(await renew()).toBe('problem')
    expect(events).toContainEqual({
      type: 'problem',
      error: {
        code: 'invalid_configuration',
        message: expect.stringMatching(/evil\.example.*give the option issuer the metadata/i),
      },
    })
    expect(server.requests.filter(({ url }) => url.startsWith(evil))).toEqual([])
    expect((await stored())?.status).toBe('active')
  })

  test('and moves it, while nobody is signed in: as at a first visit (TK-14)', async () => {
    const { browser, server, leave, signIn, start } = createWorld()
    await leave()
    await browser.pass(day)
    Object.assign(server.metadata, { token_endpoint: 'https://tokens.example/token' })
    expect(await start().signIn()).toBe('signed in')
    expect(await signIn()).not.toBe('signed in')
  })

  test('within the issuer’s origin is followed (TK-14)', async () => {
    const { browser, server, signIn, start } = createWorld()
    await signIn()
    await browser.pass(day)
    Object.assign(server.metadata, { token_endpoint: `${server.issuer}/v2/token` })
    expect(await start().renew()).toBe('renewed')
  })

  const wrong = metadataVariants.filter(({ code }) => code === 'invalid_configuration')
  test.each(rowsOf(wrong, ({ code }) => code))(
    '%s: %s, and the old one goes on being used (TK-14)%s',
    async (_title, _end, _ids, variant) => {
      const { browser, server, signIn, start } = createWorld()
      await signIn()
      await browser.pass(day)
      const { renew } = start(
        withoutRedirects(async (input, init) => {
          const right = await server.fetch(input, init)
          return String(input).includes('/.well-known/')
            ? variant.answer(await right.json())
            : right
        }),
      )
      expect(await renew()).toBe('problem')
    },
  )

  test('in the database, by a script: no token goes to another origin (TK-14)', async () => {
    const { browser, server, config, signIn, start, store } = createWorld()
    await signIn()
    const endpoints = ['token_endpoint', 'revocation_endpoint', 'authorization_endpoint'] as const
    for (const name of [...endpoints, 'end_session_endpoint', 'jwks_uri'] as const) {
      for (const origin of [
        evil,
        `${server.issuer}.evil.example`,
        `${server.issuer}@evil.example`,
      ]) {
        await store.writeMetadata({ ...server.metadata, [name]: `${origin}/x` })
        server.requests.length = 0
        await browser.pass(60_000)
        const worker = start()
        expect(await worker.renew()).toBe('renewed')
        expect(await worker.leave()).toContain(`${server.issuer}/authorize?`)
        const { refreshToken = '' } = (await worker.stored()) ?? {}
        await worker.authorizationServer.revoke(refreshToken)
        server.setGrant({ clientId: config.clientId, subject: 'alice', refreshToken })
        expect(new URL((await worker.authorizationServer.logoutUrl('s'))!).origin).toBe(
          server.issuer,
        )
        for (const { url } of server.requests) expect(new URL(url).origin).toBe(server.issuer)
      }
    }
  })

  test('is asked for by each worker where the server spreads over origins (TK-14)', async () => {
    const { server, signIn, start } = createWorld({
      server: { metadata: { token_endpoint: 'https://tokens.example/token' } },
    })
    await signIn()
    const asked = () => server.requests.filter(({ url }) => url.includes('/.well-known/')).length
    expect(asked()).toBe(1)
    const worker = start()
    expect(await worker.renew()).toBe('renewed')
    expect(await worker.renew()).toBe('renewed')
    expect(asked()).toBe(2)
  })
})

describe('the answer at the callback', () => {
  const evil = 'https://evil.example'
  const asError = (url: URL) => {
    url.searchParams.delete('code')
    url.searchParams.set('error', 'access_denied')
  }
  test.each<[string, (url: URL) => void, string]>([
    ['another iss', (url) => url.searchParams.set('iss', evil), 'invalid_callback'],
    ['no iss', (url) => url.searchParams.delete('iss'), 'invalid_callback'],
    ['an empty iss', (url) => url.searchParams.set('iss', ''), 'invalid_callback'],
    [
      'our iss and a slash',
      (url) => url.searchParams.append('iss', `${evil}/`),
      'invalid_callback',
    ],
    [
      'our iss in capitals',
      (url) => url.searchParams.set('iss', 'https://LOGIN.example'),
      'invalid_callback',
    ],
    ['an error', asError, 'access_denied'],
    [
      'an error of another iss',
      (url) => {
        asError(url)
        url.searchParams.set('iss', evil)
      },
      'invalid_callback',
    ],
    [
      'an error without iss',
      (url) => {
        asError(url)
        url.searchParams.delete('iss')
      },
      'invalid_callback',
    ],
  ])('with %s fails, and nothing is sent or stored (CB-09)', async (_title, change, code) => {
    const { server, leave, arrive, stored } = createWorld()
    const back = server.authorize(await leave())
    change(back)
    expect(await arrive(back)).toBe(code)
    expect(server.tokenRequests()).toEqual([])
    expect(await stored()).toBeUndefined()
  })
})

describe('two servers, one app', () => {
  test('the answer of one is nothing to the worker of the other (CB-10)', async () => {
    const clientId = 'same-client'
    const honest = createWorld({ options: { clientId } })
    const issuer = 'https://evil.example'
    const evil = createWorld({ options: { issuer, clientId }, server: { issuer } })
    const back = honest.server.authorize(await honest.leave())
    expect(await evil.arrive(back)).toBe('unsolicited_callback')
    // Nor with the name of the one that would like the code.
    back.searchParams.set('iss', issuer)
    expect(await honest.arrive(back)).toBe('invalid_callback')
    expect([...honest.server.tokenRequests(), ...evil.server.tokenRequests()]).toEqual([])
  })

  test('a worker whose issuer is another by now redeems nothing (CB-10)', async () => {
    const clientId = 'moved-client'
    const before = createWorld({ options: { clientId } })
    const back = before.server.authorize(await before.leave())
    const issuer = 'https://new.example'
    const after = createWorld({ options: { issuer, clientId }, server: { issuer } })
    expect(await after.arrive(back)).toBe('unsolicited_callback')
    expect(after.server.tokenRequests()).toEqual([])
  })

  test('a code is redeemed with the redirect URI that was sent for it (CB-10)', async () => {
    const clientId = 'renamed-client'
    const before = createWorld({ options: { clientId } })
    const back = before.server.authorize(await before.leave())
    const redirectUri = `${app}other.html`
    const after = createWorld({ options: { clientId, redirectUri } })
    await after.arrive(back)
    const [{ params } = { params: undefined }] = after.server.tokenRequests()
    expect(params?.get('redirect_uri')).toBe(`${app}tokenward/callback.html`)
  })
})

describe('what a request has asked for', () => {
  const claims = (acr: object) => JSON.stringify({ id_token: { acr } })

  test.each<[string, string, string | undefined, SignInEnd]>([
    ['is there', claims({ essential: true, values: ['gold', 'silver'] }), 'silver', 'signed in'],
    ['is another', claims({ essential: true, values: ['gold'] }), 'silver', 'invalid_id_token'],
    ['is not the one', claims({ essential: true, value: 'gold' }), 'silver', 'invalid_id_token'],
    ['is missing', claims({ essential: true, value: 'gold' }), undefined, 'invalid_id_token'],
    ['may be any, and is missing', claims({ essential: true }), undefined, 'invalid_id_token'],
    ['may be any', claims({ essential: true }), 'silver', 'signed in'],
    ['is another, which is allowed', claims({ values: ['gold'] }), 'silver', 'signed in'],
    ['is asked for in broken JSON', '{', 'silver', 'signed in'],
  ])('an acr that %s (TK-08)', async (_title, asked, acr, end) => {
    const { signIn, leave } = createWorld({ server: { claims: { acr } } })
    expect(await signIn({ claims: asked })).toBe(end)
    // As an option of the worker it is no less binding.
    const params = { claims: asked }
    const always = createWorld({
      server: { claims: { acr } },
      options: { authorizationParams: params },
    })
    expect(await always.signIn()).toBe(end)
    expect(new URL(await leave({ claims: asked })).searchParams.get('claims')).toBe(asked)
  })

  test('a sign-in of the last minute, that was an hour ago (TK-08)', async () => {
    const now = Math.floor(Date.now() / 1000)
    const { signIn } = createWorld({ server: { claims: { auth_time: now - 3600 } } })
    expect(await signIn({ max_age: '60' })).toBe('invalid_id_token')
    expect(await signIn({ max_age: '7200' })).toBe('signed in')
  })
})

test.each([
  ['EdDSA', 'sha512'],
  ['ES384', 'sha384'],
  ['PS512', 'sha512'],
  ['RS256', 'sha256'],
])('at_hash of %s is half of %s (TK-08)', async (alg, hash) => {
  const metadata = { id_token_signing_alg_values_supported: [alg] }
  const { server, signIn } = createWorld({ server: { metadata, header: { alg } } })
  server.answers.push(async (request) => {
    const tokens = await server.grant(request).json()
    const nonce = JSON.parse(
      Buffer.from(tokens.id_token.split('.')[1], 'base64url').toString(),
    ).nonce
    const more = { nonce, at_hash: halfHash(tokens.access_token, hash) }
    const clientId = request.params.get('client_id') ?? ''
    return json({ ...tokens, id_token: server.idToken(clientId, 'alice', more) })
  })
  expect(await signIn()).toBe('signed in')
})
