// The app's own page, and how it is reached.

import { isLoopback } from './cross-origin.mjs'
import { describe, isHtml, targetOf } from './web.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./report.mjs').Report} Report
 */

const MOST_REDIRECTS = 5

/** @param {Web} web @param {Report} report @param {string} scope @returns {Promise<Answer | undefined>} */
export const openHome = async (web, report, scope) => {
  let answer = await web.ask(scope, { headers: { accept: 'text/html' } })
  for (let step = 0; step < MOST_REDIRECTS && answer.problem === undefined; step += 1) {
    const target = targetOf(answer)
    if (!target?.href.startsWith(scope)) break
    answer = await web.ask(target, { headers: { accept: 'text/html' } })
  }
  if (answer.problem !== undefined || answer.status !== 200 || !isHtml(answer)) {
    const isDenied = answer.problem === undefined && /^40[13]$/.test(String(answer.status))
    const isPage = answer.problem === undefined && answer.status === 200
    report.fail(
      'site.answer',
      `${answer.url} ${isPage ? 'is not HTML' : describe(answer)}.`,
      'Without the page of the app there is nothing to check.',
      isDenied
        ? "A protected site needs --header 'Authorization: …', or --header 'Cookie: …'."
        : 'Give the URL where the app starts, with its folder: https://app.example.com/app/',
    )
    return undefined
  }
  report.pass('site.answer', `${answer.url} is there.`)
  await checkTransport(web, report, scope, answer)
  return answer
}

/** @param {Web} web @param {Report} report @param {string} scope @param {Answer} home */
const checkTransport = async (web, report, scope, home) => {
  const { protocol, hostname, port } = new URL(scope)
  if (protocol === 'http:') {
    if (isLoopback(hostname)) {
      return report.note('site.https', 'http, on this machine: https is not checked.')
    }
    return report.fail(
      'site.https',
      'The site is on http.',
      'Browsers have service workers on https only, localhost aside.',
      'Serve it with https.',
    )
  }
  if (!port) {
    const plain = await web.ask(scope.replace(/^https:/, 'http:'))
    if (plain.problem === undefined && targetOf(plain)?.protocol !== 'https:') {
      report.warn(
        'site.https',
        `On http the site ${describe(plain)} instead of redirecting to https.`,
        'Who comes by an http link gets an app without a worker, in the clear.',
        'Redirect everything to https.',
      )
    } else report.pass('site.https', 'https, and http leads there or nowhere.')
  }
  const age = /max-age="?(\d+)/i.exec(home.headers.get('strict-transport-security') ?? '')?.[1]
  if (Number(age) > 0) return report.pass('site.hsts', 'Strict-Transport-Security')
  report.warn(
    'site.hsts',
    'No Strict-Transport-Security.',
    'The first visit by http can be answered by anybody on the network.',
    'Send Strict-Transport-Security: max-age=31536000',
  )
}
