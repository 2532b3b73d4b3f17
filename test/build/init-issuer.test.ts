// `tokenward init --issuer` asks a server on this machine, and what it writes starts as a worker.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { runInNewContext } from 'node:vm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type WorkerFacts, workerScript } from '../../bin/init/worker-script.mjs'
import { startAuthorizationServer } from '../../demo/authorization-server.mjs'
import { build } from '../../esbuild.config.mjs'

type Metadata = Record<string, unknown>

const oidc = '/.well-known/openid-configuration'
const oauth = '/.well-known/oauth-authorization-server'
/** What the server answers, by path: JSON, text, or a status. */
let answers: Record<string, unknown>
let origin: string
/** Where nothing listens. */
let gone: string
let site: string

const server = createServer(({ url = '' }, response) => {
  const answer = answers[url] ?? 404
  if (typeof answer === 'number') response.writeHead(answer, { location: '/elsewhere' }).end()
  else response.end(typeof answer === 'string' ? answer : JSON.stringify(answer))
})

beforeAll(async () => {
  await build({ quiet: true, types: false })
  await new Promise<void>((done) => server.listen(0, 'localhost', done))
  const other = createServer()
  await new Promise<void>((done) => other.listen(0, 'localhost', done))
  gone = `http://localhost:${(other.address() as AddressInfo).port}`
  await new Promise((done) => other.close(done))
  origin = `http://localhost:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())
beforeEach(() => {
  answers = {}
  site = mkdtempSync(join(tmpdir(), 'tokenward-'))
})
afterEach(() => rmSync(site, { recursive: true, force: true }))

const init = (...args: string[]) =>
  new Promise<{ status: unknown; stdout: string; stderr: string }>((done) => {
    const command = [resolve('bin/tokenward.mjs'), 'init', '.', ...args]
    execFile(process.execPath, command, { cwd: site }, (error, stdout, stderr) => {
      done({ status: error ? error.code : 0, stdout, stderr })
    })
  })

const metadataOf = (issuer: string, more: Metadata = {}): Metadata => ({
  issuer,
  authorization_endpoint: `${issuer}/authorize`,
  token_endpoint: `${issuer}/token`,
  end_session_endpoint: `${issuer}/logout`,
  scopes_supported: ['openid', 'profile', 'offline_access'],
  ...more,
})

/** What the worker script hands to the library, and what the library says to it. */
const start = (script: string) => {
  const errors: Error[] = []
  let options: Metadata = {}
  const listeners: string[] = []
  const scope: Record<string, unknown> = {
    URL,
    TextEncoder,
    TextDecoder,
    BroadcastChannel: class {},
    console: { error: (error: Error) => errors.push(error) },
    registration: { scope: 'http://localhost:5173/' },
    location: { hostname: 'localhost' },
    addEventListener: (name: string) => listeners.push(name),
    importScripts: () => {
      runInNewContext(readFileSync('dist/development/worker.classic.js', 'utf8'), scope)
      const library = scope['tokenward'] as { createTokenWorker: (given: Metadata) => unknown }
      const { createTokenWorker } = library
      scope['tokenward'] = {
        ...library,
        createTokenWorker: (given: Metadata) => {
          options = given
          return createTokenWorker(given)
        },
      }
    },
  }
  scope['self'] = scope
  runInNewContext(script, scope)
  expect(errors.map(({ message }) => message)).toEqual([])
  expect(listeners).toContain('fetch')
  return JSON.parse(JSON.stringify(options)) as Metadata
}

const written = () => readFileSync(join(site, 'sw.js'), 'utf8')

describe('tokenward init --issuer', () => {
  test('writes a worker script for a real server, and it starts', async () => {
    const real = await startAuthorizationServer({ clients: [] })
    try {
      const { issuer } = real
      const { status, stdout, stderr } = await init('--issuer', issuer, '--client-id', 'shop')
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(start(written())).toEqual({
        issuer,
        clientId: 'shop',
        apis: ['https://api.example.com/'],
        scope: 'openid profile offline_access',
      })
      expect(stdout).toContain('Next, in sw.js: apis.')
      expect(stdout).toContain(`Register the client shop at ${issuer}`)
      for (const uri of ['tokenward/callback.html', 'tokenward/logout.html', '']) {
        expect(stdout).toContain(` https://app.example.com${uri && '/'}${uri}\n`)
      }
    } finally {
      await real.close()
    }
  })

  test('the sample without --issuer starts too, and asks for a refresh token', async () => {
    expect((await init()).status).toBe(0)
    expect(start(written())).toMatchObject({ scope: 'openid profile offline_access' })
  })

  test('gives a server without OpenID discovery its metadata in the script', async () => {
    const issuer = `${origin}/tenant`
    answers[`${oauth}/tenant`] = metadataOf(issuer, {
      jwks_uri: null,
      service_documentation: 'https://docs.example/',
      authorization_response_iss_parameter_supported: true,
    })
    expect((await init('--issuer', issuer)).status).toBe(0)
    expect(start(written())['issuer']).toEqual({
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      end_session_endpoint: `${issuer}/logout`,
      authorization_response_iss_parameter_supported: true,
    })
  })

  test('takes the spelling of the server where a slash is missing, or the whole address', async () => {
    answers[oidc] = metadataOf(`${origin}/`)
    for (const given of [origin, `${origin}/`, `${origin}${oidc}`]) {
      rmSync(join(site, 'sw.js'), { force: true })
      expect((await init('--issuer', given)).status).toBe(0)
      expect(start(written())['issuer']).toBe(`${origin}/`)
    }
  })

  test('shows what it has learned where there is a worker script', async () => {
    answers[oidc] = metadataOf(origin, { scopes_supported: ['openid'] })
    writeFileSync(join(site, 'sw.js'), "importScripts('tokenward-worker.js')")
    const { stdout } = await init('--issuer', origin)
    expect(written()).toBe("importScripts('tokenward-worker.js')")
    expect(stdout).toContain("scope: 'openid',")
  })

  test('text of the server stays text', async () => {
    const evil = `${origin}/'\n});fetch("https://evil.example")//\\'`
    answers[oauth] = metadataOf(origin, { end_session_endpoint: evil, scopes_supported: [evil] })
    expect((await init('--issuer', origin, '--client-id', "o'neill\\")).status).toBe(0)
    expect(start(written())).toMatchObject({
      clientId: "o'neill\\",
      issuer: { end_session_endpoint: evil },
    })
  })

  const bad: [title: string, args: () => string[], answers: () => Metadata, words: string[]][] = [
    [
      'a server that is not there',
      () => [gone],
      () => ({}),
      ['nothing listens there', 'Check the host', 'Without --issuer, init writes a sample'],
    ],
    [
      'an issuer without metadata',
      () => [origin],
      () => ({ [oidc]: 302 }),
      [`redirects to ${'http'}`, 'answers 404', 'with its path (Keycloak: /realms/<realm>'],
    ],
    [
      'a page in place of metadata',
      () => [origin],
      () => ({ [oidc]: '<!doctype html>', [oauth]: '[' }),
      ['is not JSON', "as the server's documentation does"],
    ],
    [
      'another issuer',
      () => [origin],
      () => ({ [oidc]: metadataOf(`${origin}/realms/shop`) }),
      ['names the issuer', 'Try --issuer http', '/realms/shop'],
    ],
    [
      'an issuer for every tenant',
      () => [`${origin}/common/v2.0`],
      () => ({
        [`/common/v2.0${oidc}`]: { ...metadataOf(origin), issuer: 'https://x/{tenantid}/v2.0' },
      }),
      ['{tenantid}', 'Give the URL of one tenant'],
    ],
    [
      'an endpoint on http',
      () => [origin],
      () => ({ [oidc]: metadataOf(origin, { token_endpoint: 'http://login.example/token' }) }),
      ['token_endpoint: http://login.example/token', 'needs an https URL'],
    ],
    [
      'a server without S256',
      () => [origin],
      () => ({ [oidc]: metadataOf(origin, { code_challenge_methods_supported: ['plain'] }) }),
      ['PKCE with plain only', 'Turn on S256'],
    ],
    ['an issuer on http', () => ['http://login.example'], () => ({}), ['needs an https URL']],
    ['an issuer that is no URL', () => ['login.example'], () => ({}), ['needs an https URL']],
  ]
  test.each(bad)('names the remedy, and writes nothing: %s', async (_title, args, given, words) => {
    answers = given()
    const [issuer = ''] = args()
    const { status, stderr } = await init('--issuer', issuer)
    expect(status).toBe(2)
    for (const each of words) expect(stderr).toContain(each)
    expect(stderr).not.toMatch(/^\s+at /m)
    expect(readdirSync(site)).toEqual([])
  })
})

describe('the worker script for', () => {
  const script = (issuer: string, more: Metadata = {}, facts: Partial<WorkerFacts> = {}) => {
    const metadata = metadataOf(issuer, more)
    const text = workerScript({ server: { issuer, metadata, isDiscovered: true }, ...facts })
    return { text, options: start(text) }
  }

  test.each<[string, string, Metadata, string]>([
    [
      'a server that lists offline_access',
      'https://a.example',
      {},
      'openid profile offline_access',
    ],
    [
      'a server that does not list it',
      'https://a.example',
      { scopes_supported: ['openid', 'email'] },
      'openid',
    ],
    [
      'a server that lists no scopes',
      'https://a.example',
      { scopes_supported: undefined },
      'openid profile',
    ],
    [
      'a server without refresh tokens',
      'https://a.example',
      { grant_types_supported: ['authorization_code'] },
      'openid profile',
    ],
    [
      'Keycloak, which needs none',
      'https://a.example/realms/shop',
      {
        authorization_endpoint: 'https://a.example/realms/shop/protocol/openid-connect/auth',
      },
      'openid profile',
    ],
  ])('%s asks for the right scope', (_title, issuer, more, scope) => {
    expect(script(issuer, more).options['scope']).toBe(scope)
  })

  test.each<[string, string, Metadata, RegExp]>([
    ['Auth0', 'https://shop.eu.auth0.com/', {}, /\/\/ authorizationParams: \{ audience:/],
    ['Entra ID', 'https://login.microsoftonline.com/1/v2.0', {}, /api:\/\//],
    ['Okta without a custom server', 'https://dev-1.okta.com', {}, /\/oauth2\/default/],
    ['Cognito', 'https://cognito-idp.eu-west-1.amazonaws.com/pool', {}, /\/\/ silentLogin: false/],
    ['Oracle', 'https://identity.oraclecloud.com/', {}, /\/\/ trustedAudiences: \['https:/],
    [
      'a server without prompt=none',
      'https://a.example',
      { prompt_values_supported: ['login'] },
      /\/\/ silentLogin: false/,
    ],
    ['any other with offline_access', 'https://a.example', {}, /\/\/ .*prompt: 'consent'/],
    [
      'DPoP',
      'https://a.example',
      { dpop_signing_alg_values_supported: ['ES256'] },
      /\/\/ dpop: tokenward\.dpop\(\)/,
    ],
    [
      'pushed requests that are required',
      'https://a.example',
      {
        require_pushed_authorization_requests: true,
        pushed_authorization_request_endpoint: 'https://a.example/par',
      },
      /requires pushed .*the worker sends them/,
    ],
    [
      'pushed requests that are possible',
      'https://a.example',
      { pushed_authorization_request_endpoint: 'https://a.example/par' },
      /do not require them for this client alone/,
    ],
    [
      'no sign-out page',
      'https://a.example',
      { end_session_endpoint: undefined },
      /\/\/ logoutUrl: /,
    ],
  ])('%s has a comment on it', (_title, issuer, more, words) => {
    const { text, options } = script(issuer, more)
    expect(text).toMatch(words)
    expect(Object.keys(options)).toEqual(['issuer', 'clientId', 'apis', 'scope'])
    // An option in a comment works as it stands there.
    const used = text.replaceAll(/^ {2}\/\/ (?=\w+: .*,$)/gm, '  ')
    expect(Object.keys(start(used)).length).toBeGreaterThanOrEqual(4)
  })

  test('a plain server has no comment on what it does not offer', () => {
    const { text } = script('https://a.example', { scopes_supported: ['openid'] })
    expect(text).not.toMatch(/dpop|pushed|logoutUrl|audience|consent/)
  })
})
