import { gzipSync } from 'node:zlib'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  answerVariants,
  idTokenVariants,
  metadataVariants,
  sendAnswer,
  sendIdToken,
} from '../support/hostile-authorization-server.js'
import { type HostileServer, startHostileServer } from '../support/hostile-http.js'
import { anyServer } from '../support/strict-policy.js'
import {
  authorizationsAt,
  eventsIn,
  landIn,
  movableClock,
  openApp,
  sessionIn,
  shiftClock,
  signIn,
  startLogin,
  useWorld,
} from '../support/world.js'

// The variants of a hostile authorization server that a browser may see otherwise than a fake
// `fetch`, and one of each kind of the rest, in a real worker and over http.
// test/hostile-authorization-server.test.ts goes through all of them.

const world = useWorld()
let hostile: HostileServer
beforeAll(async () => {
  hostile = await startHostileServer()
})
afterEach(() => hostile.reset())
afterAll(() => hostile.close())

const open = async (beforeWorker = ''): Promise<Page> => {
  world.usePolicy(anyServer)
  world.useWorker(
    `
    issuer: '${hostile.issuer}',
    scope: 'openid offline_access',
    authorizationParams: {},`,
    beforeWorker,
  )
  return await openApp(await world.newProfile(), world.url)
}

/** How a sign-in ends: signed in, or the code that the app is told. */
const trySignIn = async (page: Page): Promise<string> => {
  await landIn(page, world.url, () => startLogin(page))
  if (await sessionIn(page)) {
    await page.evaluate(() => window.auth.logout({ local: true }))
    return 'signed in'
  }
  const problem = (await eventsIn(page)).find((event) => event.startsWith('problem '))
  return problem?.replace('problem ', '') ?? 'nothing'
}

/** How a refresh ends; the session goes on in every case that is tried here. */
const tryRenew = async (page: Page): Promise<string> => {
  const before = (await eventsIn(page)).length
  const failed = await page.evaluate(() =>
    window.auth.renew().then(
      () => false,
      () => true,
    ),
  )
  expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })
  if (failed) return 'kept'
  const heard = (await eventsIn(page)).slice(before)
  return heard.some((event) => event.startsWith('problem')) ? 'problem' : 'renewed'
}

const bomb = {
  title: 'a small body that unpacks to 50 MB (TK-03)',
  answer: () =>
    new Response(gzipSync(`{"access_token":"${'x'.repeat(50_000_000)}"}`), {
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    }),
  signIn: 'invalid_token_response',
  refresh: 'kept',
} as const

const pick = <T extends { title: string }>(variants: readonly T[], titles: RegExp): T[] =>
  variants.filter(({ title }) => titles.test(title))

const idTokens = pick(
  idTokenVariants,
  /another iss|without the nonce|alg none$|at_hash of another|nested|__proto__/,
)
const answers = [
  ...pick(answerVariants, /redirect|^HTML|204|2 MB|deep|breaks a header|DPoP|inherited|two access/),
  bomb,
]
const metadata = pick(
  metadataVariants,
  /another issuer|token_endpoint is on http|S256|2 MB|elsewhere/,
)

describe('a hostile authorization server', () => {
  test('signs nobody in who should not be, and leaves nothing (TK-03, TK-04, TK-06)', async () => {
    const page = await open()
    const ends: Record<string, string> = {}
    for (const variant of idTokens) {
      sendIdToken(hostile.server, variant)
      ends[variant.title] = await trySignIn(page)
    }
    for (const variant of answers) {
      sendAnswer(hostile.server, variant)
      ends[variant.title] = await trySignIn(page)
    }
    const expected = [...idTokens, ...answers].map(({ title, signIn }) => [title, signIn])
    expect(ends).toEqual(Object.fromEntries(expected))
    expect(hostile.seen).not.toContain('/elsewhere')
    expect(await trySignIn(page)).toBe('signed in')
  })

  test('costs nobody the session at a refresh (TK-04, RF-06, RF-12)', async () => {
    const page = await open(movableClock)
    await signIn(page)
    const ends: Record<string, string> = {}
    // `renew()` cuts the pause after a failure short once in ten seconds.
    let seconds = 0
    const pass = () => {
      seconds += 11
      return shiftClock(page, seconds)
    }
    const variants = answers.filter(({ title }) => !/HTML|2 MB|204/.test(title))
    for (const variant of variants) {
      const { refreshToken } = { refreshToken: hostile.server.refreshToken() }
      sendAnswer(hostile.server, variant)
      await pass()
      ends[variant.title] = await tryRenew(page)
      if (variant.refresh !== 'kept') continue
      // The worker goes on with the token that it has.
      hostile.server.setGrant({ clientId: world.clientId, subject: 'alice', refreshToken })
    }
    const expected = variants.map(({ title, refresh }) => [title, refresh])
    expect(ends).toEqual(Object.fromEntries(expected))
    expect(hostile.seen).not.toContain('/elsewhere')
    await pass()
    expect(await tryRenew(page)).toBe('renewed')
  })

  test('with wrong metadata is asked for nothing (TK-14, AR-03)', async () => {
    const page = await open()
    const ends: Record<string, string> = {}
    for (const { title, answer } of metadata) {
      hostile.hostile.metadata = async (right) => answer(await right.json())
      ends[title] = await trySignIn(page)
    }
    expect(ends).toEqual(Object.fromEntries(metadata.map(({ title, code }) => [title, code])))
    const asked = hostile.seen.filter((path) => !path.startsWith('/.well-known/'))
    expect(asked).toEqual([])
    hostile.reset()
    expect(await trySignIn(page)).toBe('signed in')
  })

  test('gets no code for an answer in another name (CB-09)', async () => {
    const page = await open()
    const changes: ((back: URL) => void)[] = [
      (back) => back.searchParams.set('iss', 'https://evil.example'),
      (back) => back.searchParams.delete('iss'),
    ]
    for (const change of changes) {
      hostile.hostile.change = (back) => {
        change(back)
        return back
      }
      expect(await trySignIn(page)).toBe('invalid_callback')
    }
    expect(hostile.server.tokenRequests()).toEqual([])
  })

  test('that sends a byte a second is left after 15 s (TK-01)', async () => {
    const page = await open()
    await signIn(page)
    let isOver = false
    hostile.server.answers.push(() => {
      const body = new ReadableStream<Uint8Array>({
        pull: async (controller) => {
          await new Promise((resolve) => setTimeout(resolve, 1_000))
          if (!isOver) controller.enqueue(new TextEncoder().encode(' '))
        },
        cancel: () => {
          isOver = true
        },
      })
      return new Response(body, { headers: { 'content-type': 'application/json' } })
    })
    expect(await tryRenew(page)).toBe('kept')
    expect(isOver).toBe(true)
  })
})

describe('idTokenSignature: jwks()', () => {
  test('goes with the keys of a real server, and with new ones (TK-08, RF-12)', async () => {
    world.useWorker('idTokenSignature: tokenward.jwks(),', movableClock)
    const page = await openApp(await world.newProfile(), world.url)
    const fetched = () => world.as.requests.filter(({ path }) => path === '/jwks').length
    await signIn(page)
    expect(await tryRenew(page)).toBe('renewed')
    expect(fetched()).toBe(1)

    await world.as.rotateSigningKey()
    expect(await tryRenew(page)).toBe('renewed')
    expect(fetched()).toBe(2)
    await world.as.rotateSigningKey()
    await signIn(page)
    expect(fetched()).toBe(3)
  })
})

describe('a real server that wants requests pushed', () => {
  const world = useWorld({ server: { pushedRequests: true } })

  test('signs in, with nothing but a reference in the URL (AR-15)', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    await signIn(page)
    const [asked] = authorizationsAt(world.as)
    const params = new URLSearchParams(asked?.query)
    expect([...params.keys()].sort()).toEqual(['client_id', 'request_uri'])
    expect(world.as.requests.filter(({ path }) => path === '/request')).toMatchObject([
      { method: 'POST', status: 201 },
    ])
  })
})
