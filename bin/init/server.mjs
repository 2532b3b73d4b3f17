// What the authorization server says of itself, for the worker script that init writes.

import { UsageError } from '../auth-pages.mjs'
import { isLoopback } from '../doctor/cross-origin.mjs'
import { metadataUrls } from '../doctor/server.mjs'
import { createWeb, describe, parseObject, quote } from '../doctor/web.mjs'

/**
 * @typedef {Record<string, any>} Metadata
 *
 * @typedef {object} Server
 * @property {string} issuer As the server spells it
 * @property {Metadata} metadata
 * @property {boolean} isDiscovered Whether the worker can find the metadata by itself
 */

const WITHOUT =
  'Without --issuer, init writes a sample to fill in; the option issuer takes the metadata as an ' +
  'object too.'

/** @param {unknown} value */
const isSecure = (value) => {
  if (typeof value !== 'string' || !URL.canParse(value)) return false
  const { protocol, hostname } = new URL(value)
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname))
}

/** @param {string} given */
const parseIssuer = (given) => {
  // People copy the address of the metadata.
  const issuer = given.replace(
    /\/?\.well-known\/(?:openid-configuration|oauth-authorization-server)(?=\/|$)/,
    '',
  )
  if (isSecure(issuer) && !/[?#]/.test(issuer)) return issuer
  throw new UsageError(
    `--issuer ${given}: needs an https URL without query, such as https://login.example.com ` +
      '(http only on this machine).',
  )
}

/**
 * @param {string} given @param {{ version: string, fetch?: import('../doctor/web.mjs').Fetch }} context
 * @returns {Promise<Server>}
 */
export const askServer = async (given, { version, fetch = globalThis.fetch }) => {
  const asked = parseIssuer(given)
  const web = createWeb(fetch, { origin: '', headers: {} }, `tokenward-init/${version}`)
  const problems = []
  let isReached = false
  for (const [index, url] of metadataUrls(asked).entries()) {
    const answer = await web.ask(url, { headers: { accept: 'application/json' } })
    isReached ||= answer.problem === undefined
    const isFound = answer.problem === undefined && answer.status === 200
    const metadata = isFound ? parseObject(answer.text) : undefined
    if (metadata) return checked({ asked, url, metadata, isDiscovered: index === 0 })
    problems.push(`${url} ${isFound ? 'is not JSON' : describe(answer)}`)
  }
  const remedy = isReached
    ? "Write the issuer as the server's documentation does, with its path (Keycloak: " +
      '/realms/<realm>, Okta: /oauth2/default, Entra ID: /<tenant id>/v2.0).'
    : 'Check the host in it, and whether this machine can reach it.'
  throw new UsageError(`${problems.join('; ')}.\n${remedy} ${WITHOUT}`)
}

/**
 * @param {{ asked: string, url: string, metadata: Metadata, isDiscovered: boolean }} found
 * @returns {Server}
 */
const checked = ({ asked, url, metadata, isDiscovered }) => {
  const issuer = metadata['issuer']
  const plain = (/** @type {unknown} */ text) => String(text).replace(/\/$/, '')
  // A slash more or less leads to the same metadata: the server's spelling is the right one.
  if (typeof issuer !== 'string' || plain(issuer) !== plain(asked)) {
    const own =
      typeof issuer === 'string' && isSecure(issuer) && !/[{}]/.test(issuer) ? quote(issuer) : ''
    throw new UsageError(
      `${url} names the issuer ${quote(issuer)}, not ${asked}.\nThe two must be the same (RFC 8414 ` +
        `3.3). ${
          own
            ? `Try --issuer ${own}. If its metadata is not there, give the option issuer the ` +
              'metadata as an object.'
            : 'Give the URL of one tenant, with its identifier in place of common, organizations ' +
              'or a placeholder.'
        }`,
    )
  }
  const bad = ['authorization_endpoint', 'token_endpoint'].find((name) => !isSecure(metadata[name]))
  if (bad) {
    throw new UsageError(
      `${url} says ${bad}: ${quote(metadata[bad] ?? 'nothing')}.\nIt needs an https URL: correct ` +
        `the metadata at the server. ${WITHOUT}`,
    )
  }
  const methods = metadata['code_challenge_methods_supported']
  if (methods && ![methods].flat().includes('S256')) {
    throw new UsageError(
      `${url} lists PKCE with ${quote([methods].flat().join(', '))} only.\nTurn on S256 at the ` +
        'server: tokenward does not start without it.',
    )
  }
  return { issuer, metadata, isDiscovered }
}
