import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import { close, listen, originOf } from '../../demo/site.mjs'
import {
  expireToken,
  fetchIn,
  landIn,
  openAndSignIn,
  openApp,
  sessionIn,
  signIn,
  useWorld,
} from '../support/world.js'

// All browser tests run under the policy of strict-policy.ts; here is what it takes.

const world = useWorld({
  beforeWorker: `addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI }) => {
    fetch('/unhandled/', { method: 'POST', body: effectiveDirective + ' ' + blockedURI })
  })`,
})

declare global {
  interface Window {
    violations: string[]
    policies: { name: string; rule: (input: string) => string }[]
    trustedTypes: {
      createPolicy(
        name: string,
        rules: { createScriptURL(input: string): string },
      ): { createScriptURL(input: string): { toJSON(): string } }
      isScriptURL(value: unknown): boolean
    }
  }
}

/** Notes what a policy has forbidden in a page, and which policies its scripts have made. */
const watch = (page: Page) =>
  page.addInitScript(() => {
    window.violations = []
    window.policies = []
    addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI }) => {
      window.violations.push(`${effectiveDirective} ${blockedURI}`)
    })
    const { createPolicy } = window.trustedTypes
    window.trustedTypes.createPolicy = function (name, rules) {
      const policy = createPolicy.call(this, name, rules)
      window.policies.push({ name, rule: rules.createScriptURL })
      return policy
    }
  })

const violationsIn = (page: Page) => page.evaluate(() => window.violations)

/** A page at `/case` whose token manager is made by `call`. */
const openCase = async (call: string): Promise<Page> => {
  world.site.addFile('/case', { body: world.pageFor(call), type: 'text/html' })
  const page = await (await world.newProfile()).newPage()
  await watch(page)
  await page.goto(`${world.site.origin}/case`)
  return page
}

const readyOf = (page: Page): Promise<{ code?: string; message?: string }> =>
  page.evaluate(() =>
    window.auth.ready.then(
      () => ({}),
      ({ code, message }) => ({ code, message }),
    ),
  )

const policiesIn = (page: Page) => page.evaluate(() => window.policies.map(({ name }) => name))

/** Everything that an app does. */
const useEverything = async () => {
  const page = await (await world.newProfile()).newPage()
  await watch(page)
  await page.goto(world.url)
  await page.evaluate(() => window.auth.ready)
  await signIn(page)
  expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  expect(await fetchIn(page, '/api/me')).toMatchObject({ status: 200 })
  // A refresh, a silent login, and one that was asked for.
  await expireToken(world, page)
  expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  world.as.revokeRefreshTokens()
  await expireToken(world, page)
  expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  await page.evaluate(() => window.auth.checkSession())
  expect(await violationsIn(page)).toEqual([])
  await page.evaluate(() => {
    window.auth.logout().catch(() => {})
  })
  await page.waitForSelector('button[name=logout]')
  await landIn(page, world.url, () => page.click('button[name=logout]'))
  expect(await sessionIn(page)).toBeUndefined()
  expect(await violationsIn(page)).toEqual([])
}

describe('the policy that the docs recommend', () => {
  test('forbids nothing that tokenward does, in the page and in the worker (CF-06)', async () => {
    await useEverything()
    const page = await openApp(await world.newProfile(), world.url)
    const policy = await page.evaluate(async () =>
      (await fetch('/')).headers.get('content-security-policy'),
    )
    expect(policy).toMatch(/strict-dynamic.*require-trusted-types-for 'script'/)
    // It is in force: what Trusted Types are there for is refused.
    const refused = page.evaluate(() => {
      document.body.innerHTML = '<p>'
    })
    await expect(refused).rejects.toThrow('TrustedHTML')
  })

  test('may be stricter for a worker of one file: no imports, Trusted Types there too (CF-06)', async () => {
    const library = await readFile('dist/worker.classic.js', 'utf8')
    const source = world.workerSource().replace("importScripts('/tokenward-worker.js')", '')
    world.site.addFile('/sw.js', { body: `${library}\n${source}` })
    world.usePolicy({
      worker: {
        'script-src': "'none'",
        'trusted-types': "'none'",
        'require-trusted-types-for': "'script'",
      },
    })
    await useEverything()
  })
})

describe('a script in the page', () => {
  test('registers no other file as a worker, for the auth pages or anything', async () => {
    world.usePolicy({ page: { 'require-trusted-types-for': undefined } })
    world.site.addFile('/narrow.js', { body: 'addEventListener("fetch", () => {})' })
    const page = await openApp(await world.newProfile(), world.url)
    const register = (url: string) =>
      page.evaluate(
        (url) =>
          navigator.serviceWorker.register(url, { scope: '/tokenward/' }).then(
            () => 'registered',
            ({ name }) => name,
          ),
        url,
      )
    expect(await register('/narrow.js')).toBe('SecurityError')
    // A policy does not look at the query. That is why no configuration comes from there.
    expect(await register('/sw.js?issuer=https://evil.example')).toBe('registered')
  })
})

describe('Trusted Types', () => {
  const call = "tokenward.createTokenManager('/sw.js')"

  test('get one policy, whichever manager or copy of the library asks', async () => {
    const page = await openCase(call)
    expect(await readyOf(page)).toEqual({})
    await page.evaluate(async () => {
      const second = window.tokenward.createTokenManager('/sw.js')
      const third = window.tokenward.createTokenManager(new URL('/sw.js', location.href))
      await Promise.all([second.ready, third.ready])
    })
    expect(await policiesIn(page)).toEqual(['tokenward'])
    const copy = world.pageFor(`${call}; window.first = auth`).replace('tokenward.js', 'copy.js')
    const body = (await readFile('dist/page.standalone.js')).toString()
    world.site.addFile('/copy.js', { body })
    world.site.addFile('/two', { body: world.pageFor(call) + copy, type: 'text/html' })
    await page.goto(`${world.site.origin}/two`)
    expect(await readyOf(page)).toEqual({})
    await page.waitForFunction(() => 'first' in window)
    expect(await page.evaluate('first.ready.then(() => "ready")')).toBe('ready')
    expect(await policiesIn(page)).toEqual(['tokenward'])
    expect(await violationsIn(page)).toEqual([])
  })

  test('get a policy that no other script can use for anything else', async () => {
    const page = await openCase(call)
    await readyOf(page)
    const seen = await page.evaluate(() => {
      const kept = Reflect.get(window, Symbol.for('tokenward'))
      const tryToMake = () => {
        try {
          window.trustedTypes.createPolicy('tokenward', { createScriptURL: (url) => url })
          return 'made'
        } catch (error) {
          return (error as Error).name
        }
      }
      return {
        answers: ['https://evil.example/x.js', 'data:,alert(1)'].map((url) =>
          window.policies[0]?.rule(url),
        ),
        isValue: window.trustedTypes.isScriptURL(kept),
        kept: String(kept),
        again: tryToMake(),
      }
    })
    const script = `${world.site.origin}/sw.js`
    expect(seen).toEqual({
      answers: [script, script],
      isValue: true,
      kept: script,
      again: 'TypeError',
    })
  })

  test('are given no script of another origin', async () => {
    const page = await openCase("tokenward.createTokenManager('https://evil.example/sw.js')")
    expect(await readyOf(page)).toMatchObject({ code: 'worker_script_failed' })
    expect(await policiesIn(page)).toEqual([])
  })

  test('that allow no such policy are an error that says what to do (BR-10)', async () => {
    world.usePolicy({ page: { 'trusted-types': 'app' } })
    const { code, message } = await readyOf(await openCase(call))
    expect(code).toBe('worker_script_failed')
    expect(message).toMatch(/TrustedScriptURL.*tokenward in trusted-types/s)
  })

  test('that are listed but not required get in nobody’s way', async () => {
    world.usePolicy({
      page: { 'trusted-types': "'none'", 'require-trusted-types-for': undefined },
    })
    expect(await readyOf(await openCase(call))).toEqual({})
  })

  test('of the app are taken as they are', async () => {
    world.usePolicy({ page: { 'trusted-types': 'app' } })
    const own = `trustedTypes.createPolicy('app', { createScriptURL: (url) => url })`
    const page = await openCase(`tokenward.createTokenManager(${own}.createScriptURL('/sw.js'))`)
    expect(await readyOf(page)).toEqual({})
    expect(await policiesIn(page)).toEqual(['app'])
    expect(await violationsIn(page)).toEqual([])
  })
})

describe('a cross-origin isolated page', () => {
  let door: ReturnType<typeof createServer> | undefined
  afterEach(async () => {
    if (door) await close(door)
    door = undefined
  })

  /** An authorization endpoint whose silent answers may be embedded; the rest is the real one's. */
  const openDoor = async () => {
    const configuration = await fetch(`${world.as.issuer}/.well-known/openid-configuration`)
    const metadata = await configuration.json()
    door = createServer(async (request, response) => {
      const { search, searchParams } = new URL(request.url ?? '', world.as.issuer)
      const target = `${metadata.authorization_endpoint}${search}`
      const isSilent = searchParams.get('prompt') === 'none'
      // Cookies do not look at the port, so the server's own ones are sent here.
      const { cookie = '' } = request.headers
      const answer = isSilent
        ? (await fetch(target, { headers: { cookie }, redirect: 'manual' })).headers.get('location')
        : target
      const headers = { 'cross-origin-resource-policy': 'cross-origin', location: answer ?? '' }
      response.writeHead(303, headers).end()
    })
    await listen(door, 0, 'localhost')
    const origin = originOf(door, 'localhost')
    const endpoint = { ...metadata, authorization_endpoint: `${origin}/auth` }
    world.useWorker(`issuer: ${JSON.stringify(endpoint)}`)
    return origin
  }

  test('signs in, calls APIs and logs in silently, with a server that may be embedded', async () => {
    const origin = await openDoor()
    world.usePolicy({
      page: { 'frame-src': `'self' ${origin}`, 'form-action': `'self' ${origin}` },
      more: {
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-embedder-policy': 'require-corp',
      },
    })
    const page = await openAndSignIn(world)
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true)
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    world.as.revokeRefreshTokens()
    await expireToken(world, page)
    world.as.clearRequests()
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    expect(world.as.requests.some(({ query }) => query.includes('prompt=none'))).toBe(true)
    const checked = await page.evaluate(() => window.auth.checkSession())
    expect(checked).toMatchObject({ claims: { sub: 'alice' } })
  })
})
