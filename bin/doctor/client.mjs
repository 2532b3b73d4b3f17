// How the client is registered, by asking the authorization server as a browser would that is not
// signed in. With prompt=none it shows nothing: it answers to a redirect URI that it knows.

import { createHash, randomBytes } from 'node:crypto'
import { describe, quote, targetOf } from './web.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./web.mjs').NoAnswer} NoAnswer
 * @typedef {import('./report.mjs').Report} Report
 *
 * @typedef {object} Client
 * @property {string} issuer
 * @property {string} clientId
 * @property {string} redirectUri
 * @property {string} scope The app's URL
 * @property {boolean} isolated The page has COEP
 */

const MOST_REDIRECTS = 5

/** Answers of a server that knows client and redirect URI, and only misses the user. */
const EXPECTED = [
  'login_required',
  'consent_required',
  'interaction_required',
  'account_selection_required',
]

/** @param {Web} web @param {Report} report @param {Record<string, any>} metadata @param {Client} client */
export const checkClient = async (web, report, metadata, client) => {
  const endpoint = metadata['authorization_endpoint']
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint)) return
  const { redirectUri, scope } = client

  /** @param {Record<string, string | undefined>} [changes] */
  const authorize = async (changes = {}) => {
    const url = new URL(endpoint)
    const challenge = createHash('sha256').update(randomBytes(32)).digest('base64url')
    const params = {
      response_type: 'code',
      client_id: client.clientId,
      redirect_uri: redirectUri,
      scope: 'openid',
      prompt: 'none',
      state: 'tokenward-doctor',
      nonce: 'tokenward-doctor',
      code_challenge: challenge,
      code_challenge_method: 'S256',
      ...changes,
    }
    for (const [name, value] of Object.entries(params)) {
      if (value !== undefined) url.searchParams.set(name, value)
    }
    return follow(web, url.href, params.redirect_uri)
  }

  const { answer, back } = await authorize()
  if (!back) {
    return report.fail(
      'client.redirect-uri',
      `The server does not come back to ${redirectUri}, it ${describeEnd(answer)}`,
      'It does not know this client, or not this redirect URI: nobody can sign in.',
      `Register exactly ${redirectUri} for ${client.clientId}.`,
    )
  }
  checkAnswer(report, back, metadata, client)
  checkIsolation(report, answer, client)

  if (redirectUri !== scope) {
    const root = await authorize({ redirect_uri: scope })
    if (root.back) {
      report.warn(
        'client.second-redirect-uri',
        `${scope} is registered as a redirect URI too.`,
        'A code sent there meets the scripts of the app, whenever the worker is not the one to answer.',
        `Register ${redirectUri} alone, without a wildcard.`,
      )
    } else report.pass('client.second-redirect-uri', `It refuses ${scope} as a redirect URI.`)
  }

  const modes = []
  for (const mode of ['fragment', 'form_post', 'web_message']) {
    const { answer, back } = await authorize({ response_mode: mode })
    if (isGranted(mode, answer, back)) modes.push(mode)
  }
  if (modes.length > 0) {
    report.warn(
      'client.response-modes',
      `The client may ask for response_mode=${modes.join(', ')}.`,
      'A script on the page can ask for these: fragments outlive redirects, and web_message goes ' +
        'past the worker altogether.',
      'Allow query alone, if the server can be told per client.',
    )
  } else report.pass('client.response-modes', 'It answers to this client in the query only.')

  const bare = await authorize({ code_challenge: undefined, code_challenge_method: undefined })
  const error = bare.back?.params.get('error')
  if (!bare.back || (error && !EXPECTED.includes(error))) {
    report.pass('client.pkce', 'It refuses a request without PKCE.')
  } else {
    report.warn(
      'client.pkce',
      'It does not refuse a request without PKCE (before it looks at who is signed in).',
      'A script on the page could get a code that it can redeem without a verifier.',
      'Require PKCE for the client, if the server has a setting for it.',
    )
  }
}

/**
 * Follows redirects within the server, as far as the one to the redirect URI.
 *
 * @param {Web} web @param {string} start @param {string | undefined} redirectUri
 * @returns {Promise<{ answer: Answer | NoAnswer, back?: { params: URLSearchParams, fragment: URLSearchParams } }>}
 */
const follow = async (web, start, redirectUri) => {
  const cookies = new Map()
  let url = start
  for (let step = 0; ; step += 1) {
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ')
    const headers = { accept: 'text/html', ...(cookie && { cookie }) }
    const answer = await web.ask(url, { headers })
    if (answer.problem !== undefined) return { answer }
    const target = targetOf(answer)
    if (!target) return { answer }
    const { origin, pathname, searchParams, hash } = target
    if (origin + pathname === redirectUri) {
      return {
        answer,
        back: { params: searchParams, fragment: new URLSearchParams(hash.slice(1)) },
      }
    }
    if (origin !== new URL(start).origin || step === MOST_REDIRECTS) return { answer }
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=;]+)=([^;]*)/.exec(line) ?? []
      if (name) cookies.set(name, value)
    }
    url = target.href
  }
}

/** @param {Answer | NoAnswer} answer */
const describeEnd = (answer) => {
  if (answer.problem !== undefined || targetOf(answer)) return `${describe(answer)}.`
  const [, title = ''] = /<title>([^<]*)/i.exec(answer.text) ?? []
  const [, code] = /\b(invalid_\w+|unauthorized_client|AADSTS\d+)\b/.exec(answer.text) ?? []
  const words = [title, code].filter(Boolean).map((word) => `“${quote(word)}”`)
  return `shows a page (${[answer.status, ...words].join(', ')}).`
}

/**
 * @param {Report} report @param {{ params: URLSearchParams }} back
 * @param {Record<string, any>} metadata @param {Client} client
 */
const checkAnswer = (report, { params }, metadata, client) => {
  const error = params.get('error')
  const words = `${quote(error ?? '')} ${quote(params.get('error_description') ?? '')}`.trim()
  if (error === 'unauthorized_client' || error === 'unsupported_response_type') {
    report.fail(
      'client.redirect-uri',
      `It comes back to the redirect URI with ${words}`,
      'The client may not use the authorization code flow.',
      'Allow response_type=code for it.',
    )
  } else if (error !== null && !EXPECTED.includes(error)) {
    report.warn(
      'client.redirect-uri',
      `The redirect URI is registered, but it comes back with ${words}`,
      'Somebody who is not signed in should get login_required; anything else may await your users.',
      'See what the error says. The request had the scope openid, PKCE, and prompt=none.',
    )
  } else {
    report.pass('client.redirect-uri', `${client.redirectUri} is registered.`)
  }

  const iss = params.get('iss')
  const promised = metadata['authorization_response_iss_parameter_supported'] === true
  if (iss === null ? promised : iss !== client.issuer) {
    report.fail(
      'client.iss',
      iss === null
        ? 'Its answer lacks the iss that it promises.'
        : `Its answer names ${quote(iss)}.`,
      'tokenward takes that for the answer of another server, and refuses it (RFC 9207 2.4).',
      'Correct the issuer in the settings of the server, or of the proxy before it.',
    )
  }
}

/**
 * A page with Cross-Origin-Embedder-Policy takes only frames that ask to be embedded.
 *
 * @param {Report} report @param {Answer | NoAnswer} answer @param {Client} client
 */
const checkIsolation = (report, answer, { isolated }) => {
  if (!isolated || answer.problem !== undefined) return
  const policy = answer.headers.get('cross-origin-resource-policy')
  if (policy === 'cross-origin') {
    return report.pass('client.embedding', 'Its answers may be embedded in an isolated page.')
  }
  report.warn(
    'client.embedding',
    `The page has Cross-Origin-Embedder-Policy, and the server's redirect ${
      policy ? `Cross-Origin-Resource-Policy: ${quote(policy)}` : 'no Cross-Origin-Resource-Policy'
    }.`,
    'The browser blocks the frame of the silent login: it ends with a time-out, always.',
    'Send Cross-Origin-Resource-Policy: cross-origin from the authorization endpoint, or plan ' +
      'with refresh tokens.',
  )
}

/**
 * Whether an answer is in the mode that was asked for.
 *
 * @param {string} mode @param {Answer | NoAnswer} answer
 * @param {{ fragment: URLSearchParams } | undefined} back
 */
const isGranted = (mode, answer, back) => {
  if (mode === 'fragment') return EXPECTED.includes(back?.fragment.get('error') ?? '')
  if (back || answer.problem !== undefined) return false
  const isAnswer = EXPECTED.some((error) => answer.text.includes(error))
  const form = mode === 'form_post' ? /<form\b/i : /postMessage/
  return isAnswer && form.test(answer.text)
}
