// SPDX-License-Identifier: Apache-2.0

// Calls each operation with the client of oapi-codegen. The environment has its parameters,
// see test_clients.py. It prints the id of each operation whose answer is correct.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	"clients/registration"

	"github.com/google/uuid"
	"github.com/oapi-codegen/runtime/types"
)

type world struct {
	Session, Group, Plan, Occurrence uuid.UUID
	Code, Institution, Child         string
	Username                         string
	Emails                           []string
	StartDate                        time.Time `json:"start_date"`
}

var (
	data   world
	client *registration.ClientWithResponses
	ctx    = context.Background()
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func done(operation string, isRight bool) {
	if !isRight {
		check(fmt.Errorf("%s: the answer is not what was expected", operation))
	}
	fmt.Println(operation)
}

func isNow(t time.Time) bool {
	return time.Since(t).Abs() < 365*24*time.Hour
}

func ref[T any](value T) *T {
	return &value
}

// Returns the typed value of a success; exits if it is nil.
func got[T any](value *T) *T {
	if value == nil {
		check(fmt.Errorf("no %T", value))
	}
	return value
}

func date(year int, month time.Month, day int) types.Date {
	return types.Date{Time: time.Date(year, month, day, 0, 0, 0, 0, time.UTC)}
}

func connect() {
	pem, err := os.ReadFile(os.Getenv("REGISTRATION_CACERT"))
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	client, err = registration.NewClientWithResponses(os.Getenv("REGISTRATION_URL"),
		registration.WithHTTPClient(&http.Client{Transport: transport}),
		registration.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+os.Getenv("REGISTRATION_TOKEN"))
			return nil
		}))
	check(err)
	check(json.Unmarshal([]byte(os.Getenv("REGISTRATION_DATA")), &data))
}

func live() {
	answer, err := client.RegisterForLiveSessionWithResponse(ctx, data.Session,
		&registration.RegisterForLiveSessionParams{IdempotencyKey: ref(uuid.NewString())},
		registration.LiveRequest{GuestEmail: &data.Emails[0]})
	check(err)
	made := got(answer.JSON201)
	done("registerForLiveSession", *made.GuestEmail == data.Emails[0] && made.PatientId == nil &&
		made.Role == registration.LiveRoleGuest && made.SessionId == data.Session &&
		isNow(made.RegisteredAt))
}

func member(email string) registration.MemberRequest {
	request := registration.MemberRequest{InviteCode: data.Code}
	request.GroupMember.User.Email = email
	request.GroupMember.User.Gender = ref(registration.PreferNotToSay)
	request.GroupMember.User.Locale = ref("de-AT")
	request.GroupMember.User.BirthDate = ref(date(2000, 2, 29))
	request.GroupMember.User.MobileNumber = ref("+19195551212")
	request.GroupMember.Tags = &[]string{"one"}
	request.GroupMember.Attributes = &map[string]interface{}{
		"room": map[string]interface{}{"floor": 2}}
	return request
}

func isMember(found *registration.Member, email string) bool {
	room, isObject := found.Attributes["room"].(map[string]interface{})
	return found.User.Email == email && isObject && room["floor"] == 2.0 &&
		reflect.DeepEqual(found.Tags, []string{"one"}) &&
		found.User.BirthDate.Time.Equal(date(2000, 2, 29).Time) &&
		isNow(found.PlanSettings.StartDate.Time) && found.PlanSettings.EndDate == nil &&
		found.User.FirstName == nil && *found.User.Gender == registration.PreferNotToSay &&
		isNow(found.User.Created)
}

func groups() {
	made, err := client.RegisterGroupMemberWithResponse(ctx, data.Group,
		&registration.RegisterGroupMemberParams{}, member(data.Emails[0]))
	check(err)
	first := got(made.JSON201)
	done("registerGroupMember", isMember(first, data.Emails[0]))
	second, err := client.RegisterUserWithResponse(ctx, &registration.RegisterUserParams{},
		member(data.Emails[1]))
	check(err)
	done("registerUser", isMember(got(second.JSON201), data.Emails[1]))
	group, err := client.GetGroupWithResponse(ctx, data.Group)
	check(err)
	done("getGroup", got(group.JSON200).Uuid == data.Group)
	plan, err := client.GetPlanWithResponse(ctx, data.Group, data.Plan)
	check(err)
	done("getPlan", got(plan.JSON200).Uuid == data.Plan)
	user, err := client.GetUserWithResponse(ctx, data.Group, first.User.Uuid)
	check(err)
	done("getUser", reflect.DeepEqual(got(user.JSON200), first))
	again, err := client.GetMemberWithResponse(ctx, data.Group, first.User.Uuid)
	check(err)
	done("getMember", reflect.DeepEqual(got(again.JSON200), first))
}

func families() {
	answer, err := client.RegisterFamilyWithResponse(ctx, &registration.RegisterFamilyParams{},
		registration.FamilyRequest{Username: data.Username, Password: "mys3cr3tp4ss",
			Children: []string{data.Child}, InstitutionId: data.Institution})
	check(err)
	family := got(answer.JSON201)
	done("registerFamily", family.Username == data.Username && len(family.Children) == 1 &&
		family.Children[0].Id == data.Child && *family.Children[0].Age == 7)
}

func createEvent() *registration.EventRegistration {
	fields := map[string]interface{}{"email": data.Emails[0],
		"seat": map[string]interface{}{"row": 1.0, "near": []interface{}{"aisle"}}}
	answer, err := client.CreateEventRegistrationWithResponse(ctx,
		&registration.CreateEventRegistrationParams{},
		registration.EventRequest{OccurrenceId: data.Occurrence, ExternalUserId: data.Username,
			Fields: &fields})
	check(err)
	event := got(answer.JSON201)
	done("createEventRegistration", reflect.DeepEqual(event.Fields, fields) &&
		event.Status == registration.CONFIRMED && event.Occurrence.Id == data.Occurrence &&
		event.Occurrence.Registrations == 1 && *event.User.Email == data.Emails[0] &&
		isNow(event.CreatedAt) && event.Occurrence.StartDate.Equal(data.StartDate))
	return event
}

func readEvent(event *registration.EventRegistration) {
	same, err := client.GetEventRegistrationWithResponse(ctx, event.Id,
		&registration.GetEventRegistrationParams{})
	check(err)
	done("getEventRegistration", reflect.DeepEqual(got(same.JSON200), event))
	list, err := client.SearchEventRegistrationsWithResponse(ctx,
		&registration.SearchEventRegistrationsParams{OccurrenceId: &data.Occurrence,
			Limit: ref(5)})
	check(err)
	done("searchEventRegistrations",
		reflect.DeepEqual(*got(list.JSON200), []registration.EventRegistration{*event}))
}

func changeEvent(event *registration.EventRegistration) {
	minimal, err := client.UpdateEventRegistrationWithResponse(ctx, event.Id,
		&registration.UpdateEventRegistrationParams{Prefer: ref("return=minimal")},
		registration.EventUpdate{Status: ref(registration.ATTENDED)})
	check(err)
	if minimal.StatusCode() != 204 || minimal.JSON200 != nil {
		check(fmt.Errorf("an answer without a body was expected"))
	}
	answer, err := client.UpdateEventRegistrationWithResponse(ctx, event.Id,
		&registration.UpdateEventRegistrationParams{
			IfMatch: ref(minimal.HTTPResponse.Header.Get("ETag"))},
		registration.EventUpdate{
			Fields: &map[string]interface{}{"seat": nil, "note": "early"}})
	check(err)
	changed := got(answer.JSON200)
	done("updateEventRegistration", changed.Status == registration.ATTENDED &&
		reflect.DeepEqual(changed.Fields,
			map[string]interface{}{"email": data.Emails[0], "note": "early"}))
}

func deleteEvent(event *registration.EventRegistration) {
	answer, err := client.DeleteEventRegistrationWithResponse(ctx, event.Id,
		&registration.DeleteEventRegistrationParams{})
	check(err)
	deleted := got(answer.JSON200)
	done("deleteEventRegistration", deleted.Id == event.Id && isNow(*deleted.DeletedAt))
	missing, err := client.GetEventRegistrationWithResponse(ctx, event.Id,
		&registration.GetEventRegistrationParams{})
	check(err)
	if got(missing.JSON404).StatusCode != 404 {
		check(fmt.Errorf("a deleted registration was found"))
	}
}

func main() {
	connect()
	live()
	groups()
	families()
	event := createEvent()
	readEvent(event)
	changeEvent(event)
	deleteEvent(event)
}
