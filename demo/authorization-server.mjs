// A real authorization server, oidc-provider, with everything in memory, plain pages of its own,
// and the means to see what it was asked and to make it fail on request.

import { createHash, generateKeyPair, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { close, createRequestLog, listen, originOf, splitTarget } from './site.mjs'

const { Provider } = await importProvider()

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 *
 * @typedef {object} Client A public client: no secret, PKCE, authorization code and refresh token
 * @property {string} clientId
 * @property {string} [name] Shown on the pages; by default the client id
 * @property {string[]} redirectUris
 * @property {string[]} [postLogoutRedirectUris]
 * @property {string[]} origins What CORS allows to read the token endpoint's answers
 * @property {string[]} [grantTypes]
 *
 * @typedef {object} AuthorizationServerOptions
 * @property {number} [port] 0 takes a free one
 * @property {string} [host]
 * @property {Client[]} clients
 * @property {number} [accessTokenSeconds] Whole seconds
 * @property {boolean | 'always'} [rotate] false: a refresh token stays valid when it is used.
 *   'always': also one that is bound to a key, which oidc-provider's own way keeps for long
 * @property {boolean} [issueRefreshTokenAlways] Also without `offline_access`, as some servers do
 * @property {boolean} [consentRemembered] Consent outlives the grant: after a reused refresh token
 *   destroyed the grant, prompt=none works. oidc-provider's own way is `consent_required`
 * @property {string} [autoSignIn] A user name: sign-in and consent finish by themselves
 * @property {boolean} [revocation] false: no revocation endpoint
 * @property {boolean} [endSession] false: no end-session endpoint
 * @property {boolean} [dpopNonce] Every DPoP proof must contain a nonce of this server (RFC 9449 8)
 * @property {boolean} [pushedRequests] true: authorization requests have to be pushed (RFC 9126)
 *
 * @typedef {object} AuthorizationServerRequest
 * @property {number} at
 * @property {string} method
 * @property {string} path
 * @property {string} query Without the question mark
 * @property {string} [grantType]
 * @property {string} [refreshToken] Short hash
 * @property {string} [fault] The kind of fault that struck the request
 * @property {number} [status] Absent while the request is under way, 0 when nothing was answered
 *
 * @typedef {object} Fault What happens to requests (never to preflights) instead of, or beside,
 *   their being answered. An answer made by a fault is readable across origins, unless `headers`
 *   has `'access-control-allow-origin': undefined`
 * @property {string} path Prefix
 * @property {string} [grantType]
 * @property {'status' | 'html' | 'drop-before' | 'drop-after' | 'truncate' | 'hang' | 'delay'
 *   | 'delay-after'} kind
 *   drop-before: the connection is cut. drop-after: the server acts, then the connection is cut.
 *   truncate: it is cut in the middle of the answer. hang: no answer until the client gives up.
 *   delay: acts after `ms`, unless the client has gone. delay-after: acts, and answers after `ms`
 * @property {number} [status] 503 for `status`, 200 for `html`
 * @property {string | object} [body] An object is sent as JSON
 * @property {Record<string, string | undefined>} [headers]
 * @property {number} [ms]
 * @property {number} [times] How many requests it strikes
 */

const PASSWORD = 'demo'

const USERS = new Map([
  ['alice', { name: 'Alice Adams', email: 'alice@example.com' }],
  ['bob', { name: 'Bob Brown', email: 'bob@example.com' }],
  ['carol', { name: 'Carol Clark', email: 'carol@example.com' }],
])

const SCOPES = /** @type {Record<string, string>} */ ({
  openid: 'Know that it is you',
  profile: 'See your name',
  email: 'See your e-mail address',
  orders: 'Read and change your orders',
  offline_access: 'Keep its access while you are away',
})

const DAY = 24 * 60 * 60

/** @param {AuthorizationServerOptions} options */
export async function startAuthorizationServer({
  port = 0,
  host = 'localhost',
  accessTokenSeconds = 300,
  autoSignIn,
  ...options
}) {
  const settings = { accessTokenSeconds, autoSignIn: demoUser(autoSignIn) }
  const store = createStore()
  const log = createRequestLog()
  const faults = createFaults()

  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      console.error(error)
      response.destroy()
    })
  })
  await listen(server, port, host)
  const issuer = originOf(server, host)
  const listeningPort = Number(new URL(issuer).port)

  const consents = createConsents(options.consentRemembered ?? false)
  const cookieKey = randomBytes(32).toString('base64url')

  /** oidc-provider takes its keys once and for all; everything else is in the store. */
  async function setUp() {
    const signingKey = await createSigningKey()
    const setup = { ...options, settings, store, consents, signingKey, cookieKey }
    const provider = createProvider(issuer, setup)
    return {
      handleProtocol: provider.callback(),
      handleInteraction: createInteractions({ provider, settings, consents }),
    }
  }
  let { handleProtocol, handleInteraction } = await setUp()

  /** @param {Request} request @param {Response} response */
  async function answer(request, response) {
    const { pathname: path, query } = splitTarget(request)
    const form = new URLSearchParams(hasForm(request) ? await peekBody(request) : '')
    const grantType = form.get('grant_type') ?? undefined
    const refreshToken = form.has('refresh_token')
      ? shortHash(form.get('refresh_token') ?? '')
      : undefined
    const fault = request.method === 'OPTIONS' ? undefined : faults.take(path, grantType)
    log.add({ path, query, grantType, refreshToken, fault: fault?.kind }, request, response)

    if (fault && (await strike(fault, request, response))) return
    if (path.startsWith('/interaction/')) await handleInteraction(request, response, form)
    else await handleProtocol(request, response)
  }

  return {
    issuer,
    url: issuer,
    requests: /** @type {AuthorizationServerRequest[]} */ (log.requests),
    clearRequests: log.clearRequests,
    waitForRequest: log.waitForRequest,

    /**
     * What an API would learn from introspection. A token dies on the millisecond.
     *
     * @param {string} token
     * @returns {{ sub: string, scope: string, clientId: string, jkt?: string } | undefined}
     */
    verifyAccessToken(token) {
      const found = store.find('AccessToken', token)
      if (!found || !store.find('Grant', found.grantId)) return undefined
      const { accountId: sub, scope = '', clientId, jkt } = found
      return { sub, scope, clientId, ...(jkt && { jkt }) }
    },
    /** For the tokens issued from now on. @param {number} seconds Whole seconds */
    setAccessTokenSeconds(seconds) {
      settings.accessTokenSeconds = seconds
    },
    /** Signs ID tokens with a new key from now on, and publishes no other. */
    async rotateSigningKey() {
      ;({ handleProtocol, handleInteraction } = await setUp())
    },
    /** All present access tokens become invalid. */
    expireAccessTokens: () => store.clear('AccessToken'),
    /** All present refresh tokens answer `invalid_grant`; grant and session stay alive. */
    revokeRefreshTokens: () => store.clear('RefreshToken'),
    /** Nobody is signed in any more: prompt=none answers `login_required`. */
    endSessions: () => store.clear('Session'),
    /** Nobody has consented to anything: tokens are void, prompt=none: `consent_required`. */
    forgetGrants() {
      store.clear('Grant')
      consents.forget()
    },
    /** @param {Fault | undefined} fault Replaces the one before; undefined: all well again */
    setFault: faults.set,
    /** @param {string | undefined} login A user name; undefined: the pages are back */
    setAutoSignIn(login) {
      settings.autoSignIn = demoUser(login)
    },
    /** Stops listening and cuts all connections; the state stays. */
    stop: () => close(server),
    /** Listens again, on the same port. */
    start: () => listen(server, listeningPort, host),
    close: () => close(server),
  }
}

/** oidc-provider says on import that it wants a newer Node; it runs on 20, and we know. */
async function importProvider() {
  const { warn } = console
  console.warn = (...args) => {
    if (!String(args[0]).includes('oidc-provider WARNING: Unsupported runtime')) warn(...args)
  }
  try {
    // @ts-expect-error it has no types of its own
    return await import('oidc-provider')
  } finally {
    console.warn = warn
  }
}

/**
 * Every function and ttl that is left out here would be announced on the console as a default.
 *
 * @param {string} issuer @param {any} setup
 */
function createProvider(issuer, setup) {
  const { clients, settings, store, consents, signingKey, cookieKey } = setup
  const { rotate = true, issueRefreshTokenAlways, revocation = true, endSession = true } = setup
  const { dpopNonce = false, pushedRequests = false } = setup
  const { port } = new URL(issuer)

  const provider = new Provider(issuer, {
    adapter: store.adapter,
    clients: clients.map(clientMetadata),
    jwks: { keys: [signingKey] },
    cookies: {
      keys: [cookieKey],
      // Cookies do not know ports: two servers on localhost would sign each other's user out.
      names: {
        session: `_session_${port}`,
        interaction: `_interaction_${port}`,
        resume: `_interaction_resume_${port}`,
      },
    },
    scopes: Object.keys(SCOPES),
    responseTypes: ['code'],
    clientAuthMethods: ['none'],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'] },
    // Puts the profile into the ID token too, as most servers that apps meet do.
    conformIdTokenClaims: false,
    clockTolerance: 0,
    pkce: { required: () => true },
    clientBasedCORS: createOriginCheck(clients),
    findAccount,
    loadExistingGrant: consents.loadExistingGrant,
    // Left out, the library decides: always for a public client, not always with DPoP.
    ...(rotate === true ? {} : { rotateRefreshToken: rotate === 'always' }),
    ...(issueRefreshTokenAlways ? { issueRefreshToken: allowsRefreshToken } : {}),
    interactions: { url: interactionUrl },
    // No path is the beginning of another, so that a fault for /token leaves revocation alone.
    routes: { revocation: '/revoke', userinfo: '/userinfo', introspection: '/introspect' },
    ttl: {
      AccessToken: () => settings.accessTokenSeconds,
      AuthorizationCode: 60,
      Grant: 14 * DAY,
      IdToken: 3600,
      Interaction: 3600,
      RefreshToken: 14 * DAY,
      Session: 14 * DAY,
    },
    features: {
      devInteractions: { enabled: false },
      dPoP: {
        enabled: true,
        ...(dpopNonce && { nonceSecret: randomBytes(32), requireNonce: () => true }),
      },
      pushedAuthorizationRequests: {
        enabled: pushedRequests,
        requirePushedAuthorizationRequests: pushedRequests,
      },
      resourceIndicators: { enabled: false },
      revocation: { enabled: revocation, allowedPolicy: isOwnToken },
      rpInitiatedLogout: { enabled: endSession, logoutSource, postLogoutSuccessSource },
    },
    renderError,
  })
  // Without a listener an internal error would be known to the client only.
  provider.on('server_error', logServerError)
  return provider
}

/** @param {Client} client */
function clientMetadata(client) {
  return {
    client_id: client.clientId,
    client_name: client.name ?? client.clientId,
    token_endpoint_auth_method: 'none',
    grant_types: client.grantTypes ?? ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: client.redirectUris,
    post_logout_redirect_uris: client.postLogoutRedirectUris ?? [],
  }
}

/** @param {string | undefined} login */
function demoUser(login) {
  if (login !== undefined && !USERS.has(login)) throw new TypeError(`no demo user ${login}`)
  return login
}

/** @param {any} _ctx @param {string} login */
function findAccount(_ctx, login) {
  const user = USERS.get(login)
  const claims = { sub: login, preferred_username: login, ...user }
  return user && { accountId: login, claims: () => claims }
}

/** @param {any} _ctx @param {{ uid: string }} interaction */
function interactionUrl(_ctx, interaction) {
  return `/interaction/${interaction.uid}`
}

/** @param {any} _ctx @param {Error} error */
function logServerError(_ctx, error) {
  console.error(error)
}

/** @param {Client[]} clients */
function createOriginCheck(clients) {
  const origins = new Map(clients.map((client) => [client.clientId, client.origins]))
  /** @param {any} _ctx @param {string} origin @param {any} client */
  return (_ctx, origin, client) => origins.get(client.clientId)?.includes(origin) ?? false
}

/** @param {any} _ctx @param {any} client */
function allowsRefreshToken(_ctx, client) {
  return client.grantTypeAllowed('refresh_token')
}

/** @param {any} _ctx @param {any} client @param {any} token */
function isOwnToken(_ctx, client, token) {
  return token.clientId === client.clientId
}

async function createSigningKey() {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }
}

/**
 * oidc-provider's adapter, one Map per model; nothing is shared between two servers.
 *
 * @see https://github.com/panva/node-oidc-provider/blob/main/example/my_adapter.js
 */
function createStore() {
  const models = /** @type {Map<string, Map<string, { payload: any, expiresAt: number }>>} */ (
    new Map()
  )

  /** @param {string} model */
  function entriesOf(model) {
    const entries = models.get(model) ?? new Map()
    models.set(model, entries)
    return entries
  }

  /** @param {string} model @param {string} id */
  function find(model, id) {
    const entries = entriesOf(model)
    const entry = entries.get(id)
    if (entry && entry.expiresAt > Date.now()) return entry.payload
    entries.delete(id)
    return undefined
  }

  /** @param {string} model @param {string} key @param {string} value */
  function findBy(model, key, value) {
    const ids = [...entriesOf(model)].filter(([, { payload }]) => payload[key] === value)
    return ids.map(([id]) => find(model, id)).find(Boolean)
  }

  return {
    find,
    /** @param {string} model */
    clear(model) {
      entriesOf(model).clear()
    },
    /** @param {string} model */
    adapter: (model) => ({
      /** @param {string} id @param {any} payload @param {number} [expiresIn] Seconds */
      async upsert(id, payload, expiresIn = Infinity) {
        entriesOf(model).set(id, { payload, expiresAt: Date.now() + expiresIn * 1000 })
      },
      /** @param {string} id */
      find: async (id) => find(model, id),
      /** @param {string} uid */
      findByUid: async (uid) => findBy(model, 'uid', uid),
      /** @param {string} userCode */
      findByUserCode: async (userCode) => findBy(model, 'userCode', userCode),
      /** @param {string} id */
      async consume(id) {
        const payload = find(model, id)
        if (payload) payload.consumed = Math.floor(Date.now() / 1000)
      },
      /** @param {string} id */
      async destroy(id) {
        entriesOf(model).delete(id)
      },
      /** @param {string} grantId */
      async revokeByGrantId(grantId) {
        for (const [id, { payload }] of entriesOf(model)) {
          if (payload.grantId === grantId) entriesOf(model).delete(id)
        }
      },
    }),
  }
}

/**
 * Which grant an authorization request stands on. Remembered consent makes a new one where the old
 * one was destroyed.
 *
 * @param {boolean} remembered
 */
function createConsents(remembered) {
  const scopes = /** @type {Map<string, string>} */ (new Map())
  /** @param {string} accountId @param {string} clientId */
  const key = (accountId, clientId) => JSON.stringify([accountId, clientId])

  return {
    /** @param {any} grant */
    remember(grant) {
      if (remembered) scopes.set(key(grant.accountId, grant.clientId), grant.getOIDCScope())
    },
    forget() {
      scopes.clear()
    },
    /** @param {any} ctx */
    async loadExistingGrant(ctx) {
      const { account, client, provider, result, session } = ctx.oidc
      const grantId = result?.consent?.grantId ?? session.grantIdFor(client.clientId)
      const grant = grantId && (await provider.Grant.find(grantId))
      if (grant) return grant

      const scope = scopes.get(key(account.accountId, client.clientId))
      if (scope === undefined) return undefined
      const renewed = new provider.Grant({
        accountId: account.accountId,
        clientId: client.clientId,
      })
      renewed.addOIDCScope(scope)
      await renewed.save()
      return renewed
    },
  }
}

/** Sign-in and consent, by pages or by themselves. @param {any} parts */
function createInteractions({ provider, settings, consents }) {
  /** @param {Request} request @param {Response} response @param {URLSearchParams} form */
  async function handle(request, response, form) {
    const interaction = await provider.interactionDetails(request, response).catch(() => undefined)
    if (!interaction) {
      return sendPage(response, 400, messagePage('This sign-in is over', GO_BACK))
    }
    const decision = await decide(interaction, request.method === 'POST' ? form : undefined)
    if ('page' in decision) return sendPage(response, decision.status ?? 200, decision.page)
    await provider.interactionFinished(request, response, decision.result)
  }

  /**
   * @param {any} interaction @param {URLSearchParams} [form]
   * @returns {Promise<{ page: string, status?: number } | { result: object }>}
   */
  async function decide(interaction, form) {
    const { prompt } = interaction
    if (prompt.name === 'login') return decideLogin(interaction, form)
    if (prompt.name === 'consent') return decideConsent(interaction, form)
    throw new Error(`unknown prompt ${prompt.name}`)
  }

  /** @param {any} interaction @param {URLSearchParams} [form] */
  async function decideLogin({ params }, form) {
    if (settings.autoSignIn) return { result: { login: { accountId: settings.autoSignIn } } }
    const clientName = await nameOf(params.client_id)
    if (!form) return { page: loginPage({ clientName, login: params.login_hint ?? '' }) }
    if (form.has('cancel')) return denied('The user cancelled the sign-in')

    const login = (form.get('login') ?? '').trim().toLowerCase()
    if (USERS.has(login) && form.get('password') === PASSWORD) {
      return { result: { login: { accountId: login } } }
    }
    return { status: 400, page: loginPage({ clientName, login, failed: true }) }
  }

  /** @param {any} interaction @param {URLSearchParams} [form] */
  async function decideConsent(interaction, form) {
    const { params, session } = interaction
    if (form?.get('consent') === 'deny') return denied('The user did not allow it')
    if (settings.autoSignIn || form?.get('consent') === 'allow') {
      return { result: { consent: { grantId: await grantConsent(interaction) } } }
    }
    const clientName = await nameOf(params.client_id)
    const { scope = '' } = params
    return { page: consentPage({ clientName, login: session.accountId, scope }) }
  }

  /** @param {any} interaction */
  async function grantConsent({ grantId, params, prompt, session }) {
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id })
    const { missingOIDCScope = [], missingOIDCClaims = [] } = prompt.details
    grant.addOIDCScope(missingOIDCScope)
    grant.addOIDCClaims(missingOIDCClaims)
    const id = await grant.save()
    consents.remember(grant)
    return id
  }

  /** @param {string} clientId */
  async function nameOf(clientId) {
    return (await provider.Client.find(clientId))?.clientName ?? clientId
  }

  return handle
}

/** @param {string} description */
function denied(description) {
  return { result: { error: 'access_denied', error_description: description } }
}

function createFaults() {
  let current = /** @type {Fault | undefined} */ (undefined)
  let left = 0

  return {
    /** @param {Fault | undefined} fault */
    set(fault) {
      current = fault
      left = fault?.times ?? Infinity
    },
    /** @param {string} path @param {string} [grantType] */
    take(path, grantType) {
      if (!current || left <= 0 || !path.startsWith(current.path)) return undefined
      if (current.grantType && current.grantType !== grantType) return undefined
      left -= 1
      return current
    },
  }
}

/**
 * @param {Fault} fault @param {Request} request @param {Response} response
 * @returns {Promise<boolean>} Whether the server must not act any more
 */
async function strike(fault, request, response) {
  switch (fault.kind) {
    case 'delay':
      await delay(fault.ms ?? 1000)
      return response.destroyed
    case 'delay-after':
      holdAnswer(response, fault.ms ?? 1000)
      return false
    case 'drop-after':
      loseAnswer(request, response)
      return false
    case 'truncate':
      cutAnswer(request, response)
      return false
    case 'drop-before':
      request.socket.destroy()
      return true
    case 'hang':
      return true
    case 'status':
    case 'html':
      sendFault(fault, request, response)
      return true
  }
}

/** @param {Request} request @param {Response} response */
function loseAnswer(request, response) {
  response.write = () => true
  response.end = () => {
    request.socket.destroy()
    return response
  }
}

/** @param {Request} request @param {Response} response */
function cutAnswer(request, response) {
  response.end = (/** @type {any} */ body) => {
    // The length was announced for the whole of it.
    response.write(body.slice(0, body.length / 2), () => request.socket.destroy())
    return response
  }
}

/** @param {Response} response @param {number} ms */
function holdAnswer(response, ms) {
  const end = response.end.bind(response)
  response.end = (/** @type {any} */ body) => {
    setTimeout(end, ms, body)
    return response
  }
}

/** @param {Fault} fault @param {Request} request @param {Response} response */
function sendFault({ kind, status, body, headers }, request, response) {
  const html = kind === 'html'
  const content = body ?? (html ? CAPTIVE_PORTAL : { error: 'temporarily_unavailable' })
  const all = {
    'content-type': html ? 'text/html; charset=utf-8' : 'application/json',
    'access-control-allow-origin': request.headers.origin ?? '*',
    vary: 'Origin',
    ...headers,
  }
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined) response.setHeader(name, value)
  }
  response.statusCode = status ?? (html ? 200 : 503)
  response.end(typeof content === 'string' ? content : JSON.stringify(content))
}

const CAPTIVE_PORTAL = '<!doctype html><title>Wi-Fi</title><p>Please accept our terms.'

/** @param {Request} request */
function hasForm({ method, headers }) {
  if (method !== 'POST' || headers['content-length'] === '0') return false
  return /^application\/x-www-form-urlencoded\b/.test(headers['content-type'] ?? '')
}

/**
 * Reads the whole body and puts it back for oidc-provider. That works as long as 'end' has not been
 * emitted, which waits until the buffer is empty.
 *
 * @param {Request} request @returns {Promise<string>}
 */
function peekBody(request) {
  return new Promise((resolve) => {
    const chunks = /** @type {Buffer[]} */ ([])
    const finish = () => {
      request.off('readable', read)
      request.off('close', finish)
      const body = Buffer.concat(chunks)
      if (body.length > 0 && !request.destroyed) request.unshift(body)
      resolve(body.toString())
    }
    const read = () => {
      for (let chunk = request.read(); chunk !== null; chunk = request.read()) chunks.push(chunk)
      if (request.complete) finish()
    }
    request.on('readable', read)
    request.on('close', finish)
  })
}

/** @param {string} text */
function shortHash(text) {
  return createHash('sha256').update(text).digest('base64url').slice(0, 10)
}

// The pages: no script, and every value goes through `html`, which escapes it.

const STYLE = `
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; accent-color: #2b6cb0 }
body { margin: 0; min-height: 100vh; display: grid; place-items: center }
main { box-sizing: border-box; width: min(24rem, 100%); padding: 1.5rem }
h1 { font-size: 1.4rem; line-height: 1.25 }
label { display: block; margin: 0 0 1rem }
input, button { box-sizing: border-box; width: 100%; font: inherit; padding: .6rem .75rem }
input, button { border: 1px solid #8888; border-radius: .4rem }
button { margin: .5rem 0 0; cursor: pointer; background: none; color: inherit }
button.main { background: #2b6cb0; border-color: #2b6cb0; color: #fff }
.hint { opacity: .75 }
.error { border-left: .25rem solid #c53030; padding-left: .75rem }
li { margin: .25rem 0 }
`

// No form-action: Chromium applies it to the redirects after a post too, so it would have to name
// every app that signs in here.
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  'img-src data:',
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

const GO_BACK = 'Go back to the app and start again.'

/** @typedef {{ markup: string }} Markup */

/** @param {TemplateStringsArray} strings @param {(string | Markup | Markup[])[]} values */
function html(strings, ...values) {
  const markup = String.raw({ raw: strings }, ...values.map(toMarkup))
  return { markup }
}

/** @param {string | Markup | Markup[]} value @returns {string} */
function toMarkup(value) {
  if (Array.isArray(value)) return value.map(toMarkup).join('')
  if (typeof value === 'object') return value.markup
  return String(value).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** @param {string} title @param {Markup} content */
function page(title, content) {
  return html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${{ markup: STYLE }}</style>
<main>
<h1>${title}</h1>
${content}
</main>
`.markup
}

/** @param {{ clientName: string, login: string, failed?: boolean }} values */
function loginPage({ clientName, login, failed = false }) {
  const error = html`<p class="error" role="alert">Wrong user name or password.</p>`
  return page(
    `Sign in to ${clientName}`,
    html`${failed ? error : ''}
<form method="post">
<label>User name
<input name="login" value="${login}" autocomplete="username" autocapitalize="none" required
autofocus>
</label>
<label>Password
<input name="password" type="password" autocomplete="current-password" required>
</label>
<button class="main" name="submit" value="login">Sign in</button>
<button name="cancel" value="yes" formnovalidate>Cancel</button>
</form>
<p class="hint">Demo users: ${[...USERS.keys()].join(', ')}.
The password is “${PASSWORD}”.</p>`,
  )
}

/** @param {{ clientName: string, login: string, scope: string }} values */
function consentPage({ clientName, login, scope }) {
  const items = scope.split(' ').map((name) => {
    return html`<li data-scope="${name}">${SCOPES[name] ?? name}</li>\n`
  })
  return page(
    `Allow ${clientName}?`,
    html`<p>${clientName} asks ${USERS.get(login)?.name ?? login} for permission to</p>
<ul>
${items}</ul>
<form method="post">
<button class="main" name="consent" value="allow">Allow</button>
<button name="consent" value="deny">Deny</button>
</form>`,
  )
}

/** @param {string} title @param {string} text */
function messagePage(title, text) {
  return page(title, html`<p>${text}</p>`)
}

/** @param {any} ctx @param {string} form oidc-provider's, with its own token against forgery */
function logoutSource(ctx, form) {
  const clientName = ctx.oidc.client?.clientName ?? 'the app'
  const user = USERS.get(ctx.oidc.session.accountId)?.name ?? ctx.oidc.session.accountId
  renderPage(
    ctx,
    page(
      'Sign out?',
      html`<p>${user}, do you want to sign out of everything, or only of ${clientName}?</p>
${{ markup: form }}
<button class="main" form="op.logoutForm" name="logout" value="yes" autofocus>Sign out</button>
<button form="op.logoutForm" name="stay" value="yes">Only of ${clientName}</button>`,
    ),
  )
}

/** @param {any} ctx */
function postLogoutSuccessSource(ctx) {
  renderPage(ctx, messagePage('You are signed out', 'You can close this page.'))
}

/** @param {any} ctx @param {{ error: string, error_description?: string }} out */
function renderError(ctx, out) {
  const content = html`<p class="error" role="alert">${out.error_description ?? ''}</p>
<p>${GO_BACK}</p>
<p class="hint"><code>${out.error}</code></p>`
  renderPage(ctx, page('That did not work', content))
}

/** @param {any} ctx @param {string} body */
function renderPage(ctx, body) {
  ctx.set(PAGE_HEADERS)
  ctx.body = body
}

/** @param {Response} response @param {number} status @param {string} body */
function sendPage(response, status, body) {
  response.writeHead(status, PAGE_HEADERS).end(body)
}

const PAGE_HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
}
