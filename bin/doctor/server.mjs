// The authorization server: its metadata, and what it lets the worker read.

import { isLoopback, isReadable, isSameSite, siteOf, whyUnreadable } from './cross-origin.mjs'
import { describe, parseObject, quote } from './web.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./report.mjs').Report} Report
 * @typedef {Record<string, any>} Metadata
 */

/**
 * Where OpenID Connect Discovery 1.0 (4) and RFC 8414 (3) put the metadata of an issuer; tokenward
 * asks at the first.
 *
 * @param {string} issuer
 */
export const metadataUrls = (issuer) => {
  const { origin, pathname } = new URL(issuer)
  const path = pathname.replace(/\/$/, '')
  return [
    `${origin}${path}/.well-known/openid-configuration`,
    `${origin}/.well-known/oauth-authorization-server${path}`,
  ]
}

/**
 * @param {Web} web @param {Report} report @param {string} issuer @param {string} origin The app's
 * @returns {Promise<Metadata | undefined>}
 */
export const readMetadata = async (web, report, issuer, origin) => {
  const answers = []
  for (const url of metadataUrls(issuer)) answers.push(await web.ask(url, { headers: { origin } }))
  const documents = answers.map((answer) =>
    answer.problem === undefined && answer.status === 200 ? parseObject(answer.text) : undefined,
  )
  const [discovered, other] = documents
  const metadata = discovered ?? other
  const [first] = answers
  if (!first || !metadata) {
    const problems = answers.map((answer) => {
      const isFound = answer.problem === undefined && answer.status === 200
      return `${answer.url} ${isFound ? 'is not JSON' : describe(answer)}`
    })
    report.fail(
      'server.metadata',
      `${problems.join('; ')}.`,
      'tokenward learns the endpoints from the metadata.',
      'Check the issuer, to the last slash; a server without metadata needs them as the option ' +
        'issuer, as an object (then check it in a browser).',
    )
    return undefined
  }
  if (!discovered) {
    report.fail(
      'server.metadata',
      `The metadata is at ${answers[1]?.url} only.`,
      `tokenward looks at ${first.url}.`,
      'Give the option issuer that metadata as an object.',
    )
  } else if (first.problem === undefined && !isReadable(first, origin)) {
    report.fail(
      'server.metadata',
      `${first.url} ${whyUnreadable(first, origin)}.`,
      'The worker may not read the metadata (CORS).',
      `Allow the origin ${origin} at the server, or give the option issuer the metadata itself.`,
    )
  } else report.pass('server.metadata', `${first.url} can be read by the worker.`)

  checkContent(report, metadata, issuer)
  return metadata
}

/** @param {Report} report @param {Metadata} metadata @param {string} issuer */
const checkContent = (report, metadata, issuer) => {
  if (metadata['issuer'] === issuer) report.pass('server.issuer', `It calls itself ${issuer}`)
  else {
    report.fail(
      'server.issuer',
      `It calls itself ${quote(metadata['issuer'])}, and the option issuer says ${issuer}`,
      'They must be the same to the last slash: whose tokens these are hangs on it (RFC 8414 3.3).',
      'Write the issuer as the server does.',
    )
  }

  const endpoints = ['authorization_endpoint', 'token_endpoint']
  const bad = [...endpoints, 'revocation_endpoint', 'end_session_endpoint', 'jwks_uri']
    .filter((name) => metadata[name] !== undefined || endpoints.includes(name))
    .filter((name) => !isSecure(metadata[name]))
  if (bad.length > 0) {
    report.fail(
      'server.endpoints',
      `${bad.map((name) => `${name}: ${quote(metadata[name] ?? 'missing')}`).join('; ')}.`,
      'Codes and tokens go there; over http anybody on the way reads them.',
      'Have https URLs in the metadata, and all of them.',
    )
  } else report.pass('server.endpoints', 'All its endpoints are https, or on this machine.')

  const methods = metadata['code_challenge_methods_supported']
  if (methods === undefined) {
    report.warn(
      'server.pkce',
      'Its metadata does not say whether it does PKCE.',
      'tokenward sends S256 all the same, and a server that ignores it takes stolen codes.',
      'Make sure that it does; see also what it says to a request without.',
    )
  } else if ([methods].flat().includes('S256')) report.pass('server.pkce', 'PKCE with S256')
  else {
    report.fail(
      'server.pkce',
      `It lists PKCE with ${quote([methods].flat().join(', '))} only.`,
      'A code that leaks could be redeemed by whoever reads it; tokenward refuses to start.',
      'Turn on S256.',
    )
  }

  if (metadata['authorization_response_iss_parameter_supported'] === true) {
    report.pass('server.iss', 'Its answers name it (iss, RFC 9207).')
  } else {
    report.warn(
      'server.iss',
      'It does not promise to name itself in its answers (iss, RFC 9207).',
      'With several servers, an answer of one could be passed off as that of another.',
      'Turn it on if the server can; with one server only there is no mix-up.',
    )
  }

  if ([metadata['response_modes_supported']].flat().includes('web_message')) {
    report.warn(
      'server.web-message',
      'It offers response_mode=web_message.',
      'The server then hands the code to a page, past the worker: to the script that asked for it.',
      'Switch it off for this client; whether it is, can be told only by somebody signed in.',
    )
  } else report.pass('server.web-message', 'It does not list response_mode=web_message.')

  const types = metadata['response_types_supported']
  if (types !== undefined && ![types].flat().includes('code')) {
    report.fail(
      'server.code-flow',
      'It does not list response_type=code.',
      'tokenward uses the authorization code flow, and nothing else.',
      'Allow it.',
    )
  }
  const authentication = metadata['token_endpoint_auth_methods_supported']
  if (authentication !== undefined && ![authentication].flat().includes('none')) {
    report.note(
      'server.public-clients',
      'It does not list public clients (token_endpoint_auth_methods_supported without none).',
      'Some servers take them all the same. See what it says to the token request.',
    )
  }
  if (metadata['revocation_endpoint'] === undefined) {
    report.note(
      'server.revocation',
      'It has no revocation endpoint.',
      'A refresh token then outlives the sign-out, unused.',
    )
  }
  if (metadata['end_session_endpoint'] === undefined) {
    report.note(
      'server.logout',
      'It has no end_session_endpoint.',
      'Signing out ends at the app, unless the option logoutUrl builds the URL.',
    )
  }
}

/** @param {unknown} value */
const isSecure = (value) => {
  if (typeof value !== 'string' || !URL.canParse(value)) return false
  const { protocol, hostname } = new URL(value)
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname))
}

/**
 * Whether the worker can read the answers of the endpoints, errors included.
 *
 * @param {Web} web @param {Report} report @param {Metadata} metadata
 * @param {{ origin: string, clientId: string, redirectUri: string }} client
 */
export const checkEndpoints = async (web, report, metadata, client) => {
  const { origin, clientId } = client
  /** @param {unknown} url @param {Record<string, string>} [form] */
  const ask = (url, form) =>
    typeof url === 'string' && URL.canParse(url)
      ? web.ask(url, {
          headers: { origin, accept: 'application/json' },
          ...(form && { method: 'POST', body: /** @type {any} */ (new URLSearchParams(form)) }),
        })
      : undefined
  const allowIt = `Allow the origin ${origin} for CORS at the server, for error answers too.`

  const token = await ask(metadata['token_endpoint'], {
    grant_type: 'authorization_code',
    client_id: clientId,
    redirect_uri: client.redirectUri,
    code: 'tokenward-doctor',
    code_verifier: 'tokenward-doctor-'.repeat(3),
  })
  if (token?.problem !== undefined || (token && token.status >= 300 && token.status < 400)) {
    report.fail(
      'server.token-endpoint',
      `The token endpoint ${describe(token)}.`,
      'Nobody can sign in.',
      'Check token_endpoint in the metadata.',
    )
  } else if (token && !isReadable(token, origin)) {
    report.fail(
      'server.token-endpoint',
      `The token endpoint answers ${token.status} and ${whyUnreadable(token, origin)}.`,
      'The worker may not read the answer (CORS): nobody can sign in (token_endpoint_unreachable).',
      allowIt,
    )
  } else if (token) {
    report.pass('server.token-endpoint', 'The worker can read what the token endpoint answers.')
    checkTokenAnswer(report, token, clientId)
  }

  const revocation = await ask(metadata['revocation_endpoint'], {
    token: 'tokenward-doctor',
    client_id: clientId,
  })
  const optional = [
    {
      id: 'server.revocation',
      what: 'The revocation endpoint',
      answer: revocation,
      level: /** @type {const} */ ('warning'),
      why: 'Signing out revokes the refresh token; nobody learns whether that worked.',
    },
    {
      id: 'server.jwks',
      what: 'jwks_uri',
      answer: await ask(metadata['jwks_uri']),
      level: /** @type {const} */ ('note'),
      why: 'Only checking the signatures of ID tokens needs the keys.',
    },
    {
      id: 'server.userinfo',
      what: 'The userinfo endpoint',
      answer: await ask(metadata['userinfo_endpoint']),
      level: /** @type {const} */ ('note'),
      why: 'Only an app that calls it as an API needs it.',
    },
  ]
  for (const { id, what, answer, level, why } of optional) {
    if (!answer) continue
    if (answer.problem === undefined && isReadable(answer, origin)) {
      report.pass(id, `${what} can be read too.`)
      continue
    }
    const problem =
      answer.problem === undefined
        ? `answers ${answer.status} and ${whyUnreadable(answer, origin)}`
        : describe(answer)
    report.add(level, id, `${what} ${problem}.`, why, allowIt)
  }
}

/**
 * A wrong code has to be what is wrong.
 *
 * @param {Report} report @param {import('./web.mjs').Answer} answer @param {string} clientId
 */
const checkTokenAnswer = (report, answer, clientId) => {
  const body = parseObject(answer.text)
  const error = quote(body?.['error'] ?? '')
  if (error === 'invalid_client' || (answer.status === 401 && error !== 'invalid_grant')) {
    report.fail(
      'client.public',
      `To an invalid code it says ${error || answer.status} ${quote(body?.['error_description'] ?? '')}`,
      `It does not know ${clientId}, or wants a secret, which an app in a browser cannot keep.`,
      'Register a public client: no secret, token_endpoint_auth_method none.',
    )
  } else if (error === 'unauthorized_client' || error === 'unsupported_grant_type') {
    report.fail(
      'client.public',
      `To an invalid code it says ${error} ${quote(body?.['error_description'] ?? '')}`,
      'The client may not redeem codes.',
      'Allow the grant types authorization_code and refresh_token for it.',
    )
  } else if (error) report.pass('client.public', `It refuses an invalid code with ${error}.`)
  else {
    report.warn(
      'client.public',
      `To an invalid code it answers ${answer.status} without an OAuth error.`,
      'tokenward tells what to do next by that error (RFC 6749 5.2).',
      'See what answers there: a proxy or a firewall may stand before the server.',
    )
  }
}

/** @param {Report} report @param {string} scope @param {Metadata} metadata */
export const checkSameSite = (report, scope, metadata) => {
  const endpoint = metadata['authorization_endpoint']
  if (!isSecure(endpoint)) return
  const [app, server] = [scope, endpoint].map((url) => siteOf(new URL(url).hostname))
  const how = 'told by the last labels of the names, not by the public suffix list'
  if (isSameSite(scope, endpoint)) {
    return report.pass('server.same-site', `It is on the app's site, ${app} (${how}).`)
  }
  report.warn(
    'server.same-site',
    `It is on another site, ${server}, than the app, ${app} (${how}).`,
    "Silent login needs the server's cookie in a frame. Safari, Firefox, Brave and Chrome's " +
      'Incognito block or partition it: there the server answers login_required, always.',
    'Plan with refresh tokens, or give the server a name below the one of the app.',
  )
}
